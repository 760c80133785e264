//! A database file that the engine refuses, or cannot be trusted with, read page by page.
//!
//! This file owns as much of redb's file format as reading takes
//! (<https://github.com/cberner/redb/blob/master/docs/design.md>): commit slots, branches, leaves and their
//! checksums. It changes nothing, believes nothing that its checksum does not cover, and passes over what it
//! cannot read. What the records mean: `records`; what is made of them: `salvage`.
//!
//! redb itself is of no help here: it opens a file as a whole or not at all, and does not verify the pages that
//! it reads later.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt, path::Path};

use xxhash_rust::xxh3::xxh3_128;

use super::{
    Table,
    limits::{DAMAGED_PAGE_BYTES_MAX, DAMAGED_TREE_DEPTH_MAX},
};

/// What redb gives every file: pages of 4 KiB, of which the first is the header, in regions of 2^20 without
/// headers of their own.
const PAGE_BYTES: u64 = 4096;
const REGION_PAGES: u64 = 1 << 20;

/// Where the header says, with its lowest bit, which of the two commit slots is in force.
const GOD_BYTE: usize = 9;
const SLOTS: [usize; 2] = [64, 192];
const SLOT_BYTES: usize = 128;
/// The only version of the format that is known here.
const FORMAT_VERSION: u8 = 3;

const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// Where a tree begins, and what its first page must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Root {
    page: u64,
    checksum: u128,
}

/// One table of a commit.
#[derive(Clone, Copy, Debug)]
struct Tree {
    root: Option<Root>,
    /// How many records it had.
    records: u64,
}

/// A commit whose list of tables could be read.
#[derive(Debug)]
pub(super) struct Commit {
    /// It is the one in force; otherwise the one before.
    pub(super) in_force: bool,
    trees: BTreeMap<&'static str, Tree>,
}

impl Commit {
    /// How many records a table had.
    pub(super) fn records(&self, table: Table) -> u64 {
        self.trees.get(table.name()).map_or(0, |tree| tree.records)
    }
}

/// What the header says.
pub(super) enum Header {
    /// The newest commit that can be read.
    Commit(Commit),
    /// It was written by a later engine, in this version of its format.
    Newer(u8),
    /// Neither commit can be read.
    Unreadable,
}

/// See the module.
#[derive(Debug)]
pub(super) struct DamagedFile {
    file: File,
    bytes: u64,
}

impl DamagedFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    pub(super) fn header(&self) -> Header {
        let Some(header) = self.read(0, PAGE_BYTES) else { return Header::Unreadable };
        let in_force = usize::from(header.get(GOD_BYTE).is_some_and(|bits| bits & 1 != 0));
        for number in [in_force, 1 - in_force] {
            let slot = SLOTS.get(number).and_then(|at| header.get(*at..*at + SLOT_BYTES));
            let Some((fields, checksum)) = slot.and_then(|slot| slot.split_last_chunk()) else { continue };
            if xxh3_128(fields) != u128::from_le_bytes(*checksum) {
                continue;
            }
            match fields.first() {
                Some(&FORMAT_VERSION) => {}
                version => return Header::Newer(version.copied().unwrap_or_default()),
            }
            let tables = if fields.get(1) == Some(&0) { Some(BTreeMap::new()) } else { self.tables(fields) };
            if let Some(trees) = tables {
                return Header::Commit(Commit { in_force: number == in_force, trees });
            }
        }
        Header::Unreadable
    }

    /// Calls `visit` with each record of a table that can be read, in the order of their keys. Returns whether all
    /// can be.
    pub(super) fn each(&self, commit: &Commit, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        match commit.trees.get(table.name()).and_then(|tree| tree.root) {
            Some(root) => self.walk(root, 0, visit),
            None => true,
        }
    }

    /// Whether all of these tables can be read, in the commit in force.
    pub(super) fn holds_whole(&self, tables: &[Table]) -> bool {
        match self.header() {
            Header::Commit(commit) if commit.in_force => {
                tables.iter().all(|table| self.each(&commit, *table, &mut |_, _| ()))
            }
            _ => false,
        }
    }

    /// The tree of tables: from its name to where a table's own tree begins.
    fn tables(&self, slot: &[u8]) -> Option<BTreeMap<&'static str, Tree>> {
        let mut tables = BTreeMap::new();
        let whole = self.walk(root_at(slot, 8)?, 0, &mut |name, definition| {
            let known = Table::ALL.into_iter().map(Table::name).find(|known| known.as_bytes() == name);
            if let (Some(name), Some(tree)) = (known, tree_of(definition)) {
                tables.insert(name, tree);
            }
        });
        whole.then_some(tables)
    }

    /// Returns whether all of the tree could be read.
    fn walk(&self, root: Root, depth: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let Some(page) = self.page(root.page) else { return false };
        let is_whole = |end: usize| page.get(..end).is_some_and(|node| xxh3_128(node) == root.checksum);
        match page.first() {
            Some(&LEAF) => match Leaf::parse(&page) {
                Some(leaf) if is_whole(leaf.end) => {
                    leaf.each(visit);
                    true
                }
                _ => false,
            },
            Some(&BRANCH) if depth < DAMAGED_TREE_DEPTH_MAX => match children(&page) {
                Some((end, children)) if is_whole(end) => {
                    let mut whole = true;
                    for child in children {
                        whole &= self.walk(child, depth + 1, visit);
                    }
                    whole
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// A page by its number: index in the region 20 bits, region 20, unused 19, order 5.
    fn page(&self, number: u64) -> Option<Vec<u8>> {
        let (order, region) = (number >> 59, (number >> 20) & 0xF_FFFF);
        let index = number & (0xF_FFFF >> order);
        let bytes = PAGE_BYTES.checked_shl(u32::try_from(order).ok()?)?;
        if bytes > DAMAGED_PAGE_BYTES_MAX {
            return None;
        }
        self.read(PAGE_BYTES + region * REGION_PAGES * PAGE_BYTES + index * bytes, bytes)
    }

    /// `None`: it lies behind the file's end, or the disk does not give it.
    fn read(&self, at: u64, bytes: u64) -> Option<Vec<u8>> {
        if at.checked_add(bytes)? > self.bytes {
            return None;
        }
        let mut buffer = vec![0; usize::try_from(bytes).ok()?];
        self.file.read_exact_at(&mut buffer, at).ok()?;
        Some(buffer)
    }
}

/// A leaf: type 1, unused 1, count 2, ends of the keys 4 each, ends of the values 4 each, keys, values.
struct Leaf<'a> {
    page: &'a [u8],
    count: usize,
    /// Where its last value ends: so far the checksum reaches.
    end: usize,
}

impl<'a> Leaf<'a> {
    fn parse(page: &'a [u8]) -> Option<Self> {
        let count = usize::from(u16_at(page, 2)?);
        if page.first() != Some(&LEAF) || count == 0 {
            return None;
        }
        let end = u32_at(page, 4 + 4 * (2 * count - 1))?;
        let leaf = Self { page, count, end };
        let mut last = 4 + 8 * count;
        for number in 0..2 * count {
            let end = u32_at(page, 4 + 4 * number)?;
            if end < last || end > page.len() {
                return None;
            }
            last = end;
        }
        Some(leaf)
    }

    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        let end_of = |number: usize| u32_at(self.page, 4 + 4 * number);
        let start_of = |number: usize| match number.checked_sub(1) {
            None => Some(4 + 8 * self.count),
            Some(before) => end_of(before),
        };
        let part = |number: usize| self.page.get(start_of(number)?..end_of(number)?);
        for number in 0..self.count {
            if let (Some(key), Some(value)) = (part(number), part(self.count + number)) {
                visit(key, value);
            }
        }
    }
}

/// A branch: type 1, unused 1, count 2, unused 4, a checksum 16 for each of its count + 1 children, their page
/// numbers 8, ends of the keys 4 each, keys. Returns where the last key ends, and the children.
fn children(page: &[u8]) -> Option<(usize, Vec<Root>)> {
    let count = usize::from(u16_at(page, 2)?);
    let (checksums, pages) = (8, 8 + 16 * (count + 1));
    let children = (0..=count).map(|number| {
        let checksum = page.get(checksums + 16 * number..)?.first_chunk()?;
        let child = page.get(pages + 8 * number..)?.first_chunk()?;
        Some(Root { page: u64::from_le_bytes(*child), checksum: u128::from_le_bytes(*checksum) })
    });
    let children = children.collect::<Option<_>>()?;
    let end = u32_at(page, pages + 8 * (count + 1) + 4 * count.checked_sub(1)?)?;
    Some((end, children))
}

/// What the tree of tables says of one: type 1, records 8, whether it has a root 1, page 8, checksum 16, and more.
fn tree_of(definition: &[u8]) -> Option<Tree> {
    let records = u64::from_le_bytes(*definition.get(1..)?.first_chunk()?);
    let root = if definition.get(9) == Some(&0) { None } else { Some(root_at(definition, 10)?) };
    Some(Tree { root, records })
}

fn root_at(bytes: &[u8], at: usize) -> Option<Root> {
    let page = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let checksum = u128::from_le_bytes(*bytes.get(at + 8..)?.first_chunk()?);
    Some(Root { page, checksum })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|field| u16::from_le_bytes(*field))
}

/// An offset in a page.
fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}
