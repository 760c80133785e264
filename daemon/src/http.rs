//! As much of HTTP as it takes to fetch one page.
//!
//! Owns: what is asked for, and the head of the answer. What a request looks like is a library's. Must not know what is on the page.

/// What came so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Not all of it.
    Incomplete,
    /// GET of the page, or HEAD of it: then without the page itself.
    Page {
        /// Whether the page is wanted, not its head alone.
        with_body: bool,
    },
    /// Something else, and the status with which it is refused.
    Refused(&'static str),
}

/// Header lines that are looked at. More are refused.
const HEADERS_MAX: usize = 64;

/// Reads a request for the page at `path`.
#[must_use]
pub fn parse(bytes: &[u8], path: &str) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Err(httparse::Error::TooManyHeaders) => Request::Refused("431 Request Header Fields Too Large"),
        Err(_) => Request::Refused("400 Bad Request"),
        Ok(httparse::Status::Partial) => Request::Incomplete,
        Ok(httparse::Status::Complete(_)) => {
            let asked = request.path.unwrap_or_default();
            let asked = asked.split_once('?').map_or(asked, |(asked, _)| asked);
            match request.method {
                _ if asked != path => Request::Refused("404 Not Found"),
                Some("GET") => Request::Page { with_body: true },
                Some("HEAD") => Request::Page { with_body: false },
                _ => Request::Refused("405 Method Not Allowed"),
            }
        }
    }
}

/// The whole answer. The connection ends with it.
#[must_use]
pub fn answer(status: &str, content_type: &str, body: &str, with_body: bool) -> String {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    head + if with_body { body } else { "" }
}
