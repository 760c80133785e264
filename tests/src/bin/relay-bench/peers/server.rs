//! The peers' processes.
//!
//! Owns: how each is configured and started, and that it ends.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e_tests::process::{Directory, wait_for};

/// A peer that runs.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    _directory: Directory,
}

impl Server {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Starts a program, which is told its directory and its port; `None` if it isn't installed.
    fn start(program: &str, configure: impl FnOnce(&mut Command, &Path, u16)) -> Option<Self> {
        let found =
            ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().map(|folder| Path::new(folder).join(program));
        let path = found.into_iter().find(|path| path.exists())?;
        let directory = Directory::new();
        // Free at this moment: none of these programs can say which port the system gave it.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).ok()?.port();
        let mut command = super::super::pinned(&path);
        configure(&mut command, directory.path(), port);
        let child = command
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the peer starts");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Self { child, address, _directory: directory };
        wait_for("the peer to listen", || {
            let ended = server.child.try_wait().expect("it can be waited for");
            assert!(ended.is_none(), "{program} ended: {ended:?}");
            TcpStream::connect(address).ok()
        });
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nats-server, with JetStream on the disk if that is wanted.
pub(crate) fn nats(jetstream: bool) -> Option<Server> {
    Server::start("nats-server", |command, directory, port| {
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        if jetstream {
            command.arg("-js").arg("-sd").arg(directory);
        }
    })
}

/// mosquitto, for anybody, without limits to what is in flight.
pub(crate) fn mosquitto() -> Option<Server> {
    Server::start("mosquitto", |command, directory, port| {
        let file = directory.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        );
        fs::write(&file, text).expect("the directory can be written to");
        command.arg("-c").arg(file);
    })
}

/// redis, keeping nothing, or all of it, fsynced before it is acknowledged.
pub(crate) fn redis(stores: bool) -> Option<Server> {
    Server::start("redis-server", |command, directory, port| {
        let port = port.to_string();
        command.args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--maxclients",
            "19000",
            "--dir",
        ]);
        command.arg(directory);
        if stores {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
    })
}
