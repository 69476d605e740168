//! Which dates of a place may be a pair, and which one is drawn.
//!
//! A policy's filters say which two dates may be a pair. They treat both alike, so that a date without a partner is
//! none either: to leave such dates out changes nothing for the others.

mod count;
mod places;
mod policy;

pub use count::{Counts, count, gap_histogram};
pub use places::Places;
pub use policy::{Draw, Match, Policy, season};

use crate::rng::Draws;
use crate::{Error, Result};

/// What is known of each row's date. A column that the policy does not ask for may be empty.
#[derive(Debug, Clone, Default)]
pub struct Dates {
    /// Microseconds since 1970; `i64::MIN` where it is not known.
    pub timestamp: Vec<i64>,
    /// Cloud cover, percent; NaN where it is not known.
    pub cloud: Vec<f32>,
    /// A code for each sensor; -1 where it is not known.
    pub sensor: Vec<i32>,
}

/// Places, what is known of their dates, and the policy that pairs them.
#[derive(Debug, Clone)]
pub struct Pairs {
    places: Places,
    policy: Policy,
    dates: Dates,
    /// See `season`; empty unless the policy asks for it.
    season: Vec<i32>,
}

impl Pairs {
    /// Any other date of the place, each with the same probability.
    pub fn uniform(places: Places) -> Self {
        Self { places, policy: Policy::default(), dates: Dates::default(), season: Vec::new() }
    }

    /// Pairs by `policy`. Fails where `dates` lacks a column that the policy asks for.
    pub fn new(places: Places, policy: Policy, dates: Dates) -> Result<Self> {
        let n = places.rows();
        let asked = [
            (policy.asks_time(), dates.timestamp.len(), "timestamp"),
            (policy.asks_cloud(), dates.cloud.len(), "cloud cover"),
            (policy.asks_sensor(), dates.sensor.len(), "sensor"),
        ];
        if let Some((_, found, what)) = asked.iter().find(|(asks, found, _)| *asks && *found != n) {
            return Err(Error::Argument(format!("pairs: {n} rows, but {found} of {what}")));
        }
        let asks_season = policy.season != Match::Any;
        let season = if asks_season { dates.timestamp.iter().map(|&t| season(t)).collect() } else { Vec::new() };
        Ok(Self { places, policy, dates, season })
    }

    /// The places.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The row of each view after the first, which shows `row`; `draws` are those of a view. They are different dates
    /// as long as there are any that were not drawn, and then all are drawn again. `row` itself where no date may be its
    /// partner.
    pub fn partners(&self, row: usize, views: usize, draws: impl Fn(u8) -> Draws) -> Vec<usize> {
        let allowed = self.allowed(row);
        let mut left = Vec::new();
        let mut drawn = Vec::with_capacity(views.saturating_sub(1));
        for view in 1..views {
            if left.is_empty() {
                left.clone_from(&allowed);
            }
            drawn.push(if left.is_empty() { row } else { self.draw(&mut left, &mut draws(view as u8)) as usize });
        }
        drawn
    }

    /// The rows that may be the partner of `row`: ascending, or, where the policy's draw is nearest or farthest, in
    /// that order, and ascending among those that are as far.
    pub fn allowed(&self, row: usize) -> Vec<u32> {
        if !self.usable(row) {
            return Vec::new();
        }
        let fits = |&other: &u32| {
            let other = other as usize;
            other != row && self.usable(other) && self.fits(row, other)
        };
        let mut allowed: Vec<u32> = self.places.dates(row).iter().copied().filter(fits).collect();
        match self.policy.draw {
            Draw::Uniform | Draw::Clear => {}
            Draw::Nearest => allowed.sort_by_key(|&other| self.gap(row, other as usize)),
            Draw::Farthest => allowed.sort_by_key(|&other| std::cmp::Reverse(self.gap(row, other as usize))),
        }
        allowed
    }

    /// Takes one of `left` out, which is not empty.
    fn draw(&self, left: &mut Vec<u32>, draws: &mut Draws) -> u32 {
        let at = match self.policy.draw {
            Draw::Uniform => draws.below(left.len()),
            Draw::Nearest | Draw::Farthest => 0,
            Draw::Clear => {
                let clear = |row: &u32| 100.0 - f64::from(self.dates.cloud[*row as usize]);
                let mut mark = draws.unit() * left.iter().map(clear).sum::<f64>();
                let passed = |row: &u32| {
                    mark -= clear(row);
                    mark < 0.0
                };
                // Rounding may leave the mark just behind the last.
                left.iter().position(passed).unwrap_or(left.len() - 1)
            }
        };
        left.remove(at)
    }

    /// Whether the row has all that the policy asks for, and is not too cloudy.
    fn usable(&self, row: usize) -> bool {
        let Policy { max_cloud, draw, .. } = self.policy;
        (!self.policy.asks_time() || self.dates.timestamp[row] != i64::MIN)
            && (!self.policy.asks_sensor() || self.dates.sensor[row] >= 0)
            // A comparison with NaN is false. What is all cloud has no weight in `Draw::Clear`.
            && max_cloud.is_none_or(|most| self.dates.cloud[row] <= most)
            && (draw != Draw::Clear || self.dates.cloud[row] < 100.0)
    }

    /// Whether two usable dates may be a pair.
    fn fits(&self, a: usize, b: usize) -> bool {
        let Policy { season, gap, sensor, .. } = self.policy;
        let in_season = match season {
            Match::Any => true,
            Match::Same => {
                self.season[a] != self.season[b] && self.season[a].rem_euclid(4) == self.season[b].rem_euclid(4)
            }
            Match::Other => self.season[a].rem_euclid(4) != self.season[b].rem_euclid(4),
        };
        let by_sensor = match sensor {
            Match::Any => true,
            Match::Same => self.dates.sensor[a] == self.dates.sensor[b],
            Match::Other => self.dates.sensor[a] != self.dates.sensor[b],
        };
        in_season && by_sensor && gap.is_none_or(|(least, most)| (least..=most).contains(&self.gap(a, b)))
    }

    /// Microseconds between two dates.
    fn gap(&self, a: usize, b: usize) -> u64 {
        self.dates.timestamp[a].abs_diff(self.dates.timestamp[b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stage;

    fn draws(sample: u64) -> impl Fn(u8) -> Draws {
        move |view| Draws::new(1, 0, sample, view, Stage::Partner)
    }

    #[test]
    fn partners_are_the_other_dates_uniformly() {
        let pairs = Pairs::uniform(Places::new(&[7, 3, 7, 9, 7, 7, 3]));
        let mut counts = [0u32; 7];
        for sample in 0..3000 {
            counts[pairs.partners(2, 2, draws(sample))[0]] += 1;
            assert_eq!(pairs.partners(3, 3, draws(sample)), [3, 3]);
            assert_eq!(pairs.partners(1, 2, draws(sample)), [6]);
        }
        for row in [0, 4, 5] {
            assert!((900..1100).contains(&counts[row]), "{counts:?}");
        }
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn several_partners_are_different_dates_until_all_were_drawn() {
        let pairs = Pairs::uniform(Places::new(&[0; 4]));
        let mut first = [0u32; 4];
        for sample in 0..600 {
            let drawn = pairs.partners(1, 6, draws(sample));
            let mut once = drawn[..3].to_vec();
            once.sort_unstable();
            assert_eq!(once, [0, 2, 3]);
            assert_ne!(drawn[3], drawn[4]);
            assert_eq!(drawn[0], pairs.partners(1, 2, draws(sample))[0]);
            first[drawn[1]] += 1;
        }
        assert!([0, 2, 3].iter().all(|&row| (150..250).contains(&first[row])), "{first:?}");
    }

    #[test]
    fn what_the_policy_asks_for_must_be_there() {
        let policy = Policy { season: Match::Other, ..Policy::default() };
        let made = Pairs::new(Places::new(&[0, 0]), policy, Dates { timestamp: vec![0], ..Dates::default() });
        assert_eq!(made.err().map(|e| e.to_string()).as_deref(), Some("pairs: 2 rows, but 1 of timestamp"));
    }
}
