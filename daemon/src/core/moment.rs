//! When something happened, in four bytes: each connection has some of these.
//!
//! Must not know why it matters.

/// A millisecond of the monotonic clock that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(u32);

impl Moment {
    pub(super) fn at(now_ms: u64) -> Self {
        // The upper bits are cut off: `age_ms` doesn't need them.
        Self(now_ms as u32)
    }

    /// For how long it has passed, milliseconds. After 49 days it begins at zero again: what waits for an age waits longer
    /// then, and nothing is ever taken for older than it is.
    pub(super) fn age_ms(self, now_ms: u64) -> u64 {
        (now_ms as u32).wrapping_sub(self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_age_where_its_bits_end() {
        for at_ms in [0, 7, u64::from(u32::MAX), u64::from(u32::MAX) + 1, 1 << 40] {
            for age_ms in [0, 1, 30_000, u64::from(u32::MAX)] {
                assert_eq!(Moment::at(at_ms).age_ms(at_ms + age_ms), age_ms);
            }
        }
    }

    #[test]
    fn is_never_older_than_it_is() {
        for age_ms in [1 << 32, (1 << 32) + 5, (1 << 40) + 1] {
            assert!(Moment::at(123).age_ms(123 + age_ms) <= 5);
        }
    }
}
