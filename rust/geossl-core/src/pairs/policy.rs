//! What a pair policy says.

use crate::index::timestamp::days_since_1970;

const DAY: i64 = 86_400_000_000;

/// Whether two dates have to be alike in something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Match {
    /// It does not matter.
    #[default]
    Any,
    /// They have to be.
    Same,
    /// They must not be.
    Other,
}

/// How one of the allowed dates is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Draw {
    /// Each with the same probability.
    #[default]
    Uniform,
    /// The nearest in time, the lowest row among those that are as near.
    Nearest,
    /// The farthest in time, the lowest row among those that are as far.
    Farthest,
    /// Each with a probability in proportion to its share without cloud.
    Clear,
}

/// Which dates of a place may be a pair, and how one is drawn. A date of which something is not known that the policy
/// asks for is never part of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Policy {
    /// Season of the year; the same season is that of another year.
    pub season: Match,
    /// Least and most time between the dates, microseconds.
    pub gap: Option<(u64, u64)>,
    /// Most cloud cover of each of the two, percent.
    pub max_cloud: Option<f32>,
    /// Sensor.
    pub sensor: Match,
    /// How one is drawn.
    pub draw: Draw,
}

impl Policy {
    /// Least and most gap from days; no most is no limit.
    pub fn gap_of_days(least: f64, most: Option<f64>) -> (u64, u64) {
        let micros = |days: f64| (days * DAY as f64).round() as u64;
        (micros(least), most.map_or(u64::MAX, micros))
    }

    /// Whether timestamps matter.
    pub fn asks_time(&self) -> bool {
        self.season != Match::Any || self.gap.is_some() || matches!(self.draw, Draw::Nearest | Draw::Farthest)
    }

    /// Whether cloud cover matters.
    pub fn asks_cloud(&self) -> bool {
        self.max_cloud.is_some() || self.draw == Draw::Clear
    }

    /// Whether sensors matter.
    pub fn asks_sensor(&self) -> bool {
        self.sensor != Match::Any
    }
}

/// Number of the season (UTC) that an instant lies in, 4 for each year that begins with March. Modulo 4 it is 0 from
/// March to May, 1 from June to August, 2 from September to November and 3 from December to February.
pub fn season(micros: i64) -> i32 {
    let days = micros.div_euclid(DAY);
    let march = |year| days_since_1970(year, 3, 1);
    // Never too late a year, and too early by one at most.
    let guess = 1970 + (days * 400).div_euclid(146_097) - 1;
    let year = if march(guess + 1) <= days { guess + 1 } else { guess };
    let day = days - march(year);
    // First days of June, September and December.
    let within = [92, 184, 275].iter().filter(|&&first| day >= first).count();
    (4 * year) as i32 + within as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{DAY, season};
    use crate::index::timestamp::micros;

    #[test]
    fn seasons_begin_with_march_june_september_and_december() {
        let of = |text: &str| season(micros(text).unwrap());
        for (text, within) in [
            ("2012-03-01", 0),
            ("2012-05-31T23:59:59Z", 0),
            ("2012-06-01", 1),
            ("2012-08-31T23:59:59Z", 1),
            ("2012-09-01", 2),
            ("2012-11-30T23:59:59Z", 2),
            ("2012-12-01", 3),
            ("2013-01-01", 3),
            ("2013-02-28T23:59:59Z", 3),
        ] {
            assert_eq!(of(text), 4 * 2012 + within, "{text}");
        }
        assert_eq!(of("2012-02-29T12:00:00Z"), 4 * 2011 + 3);
        assert_eq!(of("1969-12-31"), 4 * 1969 + 3);
    }

    proptest! {
        #[test]
        fn a_season_follows_the_other(year in 1i64..3000, month in 1i64..=12, day in 1i64..=28) {
            let text = format!("{year:04}-{month:02}-{day:02}");
            let instant = micros(&text).unwrap();
            let march_year = if month <= 2 { year - 1 } else { year };
            prop_assert_eq!(i64::from(season(instant)), 4 * march_year + (month + 9) % 12 / 3, "{}", text);
            prop_assert!((0..=1).contains(&(season(instant + DAY) - season(instant))));
        }
    }
}
