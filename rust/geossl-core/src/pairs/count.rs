//! How many pairs a policy has.

use std::collections::HashMap;

use super::{Match, Pairs, Places};
use crate::parallel;

/// Places that a thread counts at a time.
const CHUNK: usize = 1024;
/// Dates of a place that are fastest compared one by one.
const FEW: usize = 64;

/// What a policy makes of places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Whether each row has a partner.
    pub partnered: Vec<bool>,
    /// Unordered pairs.
    pub pairs: u64,
}

/// Counts pairs. 0 threads are all cores; the result does not depend on their number.
pub fn count(pairs: &Pairs, threads: usize) -> Counts {
    let places: Vec<&[u32]> = pairs.places.iter().collect();
    let chunks: Vec<_> = places.chunks(CHUNK).collect();
    let found = parallel::map(chunks.len(), threads, |i| {
        let (mut partnered, mut number) = (Vec::new(), 0);
        for place in chunks[i] {
            let mut dates: Vec<u32> = place.iter().copied().filter(|&row| pairs.usable(row as usize)).collect();
            let partners = if dates.len() <= FEW { one_by_one(pairs, &dates) } else { by_keys(pairs, &mut dates) };
            number += partners.iter().sum::<u64>();
            partnered.extend(dates.into_iter().zip(partners).filter_map(|(row, n)| (n > 0).then_some(row)));
        }
        (partnered, number)
    });
    let mut out = Counts { partnered: vec![false; pairs.places.rows()], pairs: 0 };
    for (partnered, number) in found {
        for row in partnered {
            out.partnered[row as usize] = true;
        }
        out.pairs += number / 2;
    }
    out
}

/// How many partners each of the usable `dates` of a place has.
fn one_by_one(pairs: &Pairs, dates: &[u32]) -> Vec<u64> {
    let mut partners = vec![0; dates.len()];
    for (b, &second) in dates.iter().enumerate() {
        for (a, &first) in dates[..b].iter().enumerate() {
            if pairs.fits(first as usize, second as usize) {
                partners[a] += 1;
                partners[b] += 1;
            }
        }
    }
    partners
}

/// The same in a time that grows as the dates do; sorts them. What is not wanted of a date's partners is taken off:
/// those of another season are all less those of its own.
fn by_keys(pairs: &Pairs, dates: &mut [u32]) -> Vec<u64> {
    let time = |row: u32| if pairs.policy.asks_time() { pairs.dates.timestamp[row as usize] } else { 0 };
    dates.sort_unstable_by_key(|&row| (time(row), row));
    let (least, most) = pairs.policy.gap.unwrap_or((0, u64::MAX));
    let mut partners = vec![0; dates.len()];
    // Those before each date, then those after it.
    for back in [false, true] {
        let at = |i: usize| if back { dates.len() - 1 - i } else { i };
        let mut seen: HashMap<(i64, i64), i64> = HashMap::new();
        let (mut entered, mut left) = (0, 0);
        for i in 0..dates.len() {
            let row = dates[at(i)];
            let gap = |j: usize| time(row).abs_diff(time(dates[at(j)]));
            while entered < i && gap(entered) >= least {
                for (key, _) in keys(pairs, dates[at(entered)]) {
                    *seen.entry(key).or_default() += 1;
                }
                entered += 1;
            }
            while left < entered && gap(left) > most {
                for (key, _) in keys(pairs, dates[at(left)]) {
                    *seen.entry(key).or_default() -= 1;
                }
                left += 1;
            }
            let allowed: i64 =
                keys(pairs, row).into_iter().map(|(key, sign)| sign * seen.get(&key).copied().unwrap_or(0)).sum();
            partners[at(i)] += allowed as u64;
        }
    }
    partners
}

/// What to count dates by, as (season, sensor), and whether those with the key of a date are among its partners, 1, or
/// to be taken off again, -1.
fn keys(pairs: &Pairs, row: u32) -> Vec<((i64, i64), i64)> {
    const ALL: i64 = i64::MIN;
    let season = pairs.season.get(row as usize).copied().unwrap_or(0);
    // The season of any year is below those of years.
    let (any_year, own) = (ALL + 1 + i64::from(season.rem_euclid(4)), i64::from(season));
    let seasons: &[(i64, i64)] = match pairs.policy.season {
        Match::Any => &[(ALL, 1)],
        Match::Same => &[(any_year, 1), (own, -1)],
        Match::Other => &[(ALL, 1), (any_year, -1)],
    };
    let sensor = pairs.dates.sensor.get(row as usize).map_or(ALL, |&sensor| i64::from(sensor));
    let sensors: &[(i64, i64)] = match pairs.policy.sensor {
        Match::Any => &[(ALL, 1)],
        Match::Same => &[(sensor, 1)],
        Match::Other => &[(ALL, 1), (sensor, -1)],
    };
    seasons.iter().flat_map(|&(a, plus)| sensors.iter().map(move |&(b, sign)| ((a, b), plus * sign))).collect()
}

/// How many unordered pairs of dates of one place are how far apart: pair counts between each edge (microseconds,
/// ascending) and the next, the last without end. Timestamps that are `i64::MIN` are not known, and are in no pair.
pub fn gap_histogram(places: &Places, timestamp: &[i64], edges: &[u64], threads: usize) -> Vec<u64> {
    let all: Vec<&[u32]> = places.iter().collect();
    let chunks: Vec<_> = all.chunks(CHUNK).collect();
    let found = parallel::map(chunks.len(), threads, |i| {
        let mut below = vec![0u64; edges.len() + 1];
        for place in chunks[i] {
            let known = place.iter().map(|&row| timestamp[row as usize]).filter(|&t| t != i64::MIN);
            let mut times: Vec<i64> = known.collect();
            times.sort_unstable();
            for (count, &edge) in below.iter_mut().zip(edges) {
                *count += closer(&times, edge);
            }
            below[edges.len()] += (times.len() * times.len().saturating_sub(1) / 2) as u64;
        }
        below
    });
    let mut below = vec![0u64; edges.len() + 1];
    for part in found {
        for (sum, count) in below.iter_mut().zip(part) {
            *sum += count;
        }
    }
    below.windows(2).map(|ends| ends[1] - ends[0]).collect()
}

/// Pairs of `times`, which are sorted, that are less than `edge` apart.
fn closer(times: &[i64], edge: u64) -> u64 {
    let (mut first, mut pairs) = (0, 0);
    for (i, &time) in times.iter().enumerate() {
        while first < i && times[first].abs_diff(time) >= edge {
            first += 1;
        }
        pairs += (i - first) as u64;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pairs::{Dates, Draw, Policy};

    #[test]
    fn gaps_between_edges() {
        let places = Places::new(&[0, 0, 0, 1, 0]);
        let times = [10, 0, 10, 5, i64::MIN];
        assert_eq!(gap_histogram(&places, &times, &[0, 1, 10, 11], 1), [1, 0, 2, 0]);
        assert_eq!(gap_histogram(&places, &times, &[1], 1), [2]);
    }

    fn matches() -> impl Strategy<Value = Match> {
        prop::sample::select(vec![Match::Any, Match::Same, Match::Other])
    }

    proptest! {
        #[test]
        fn counts_are_those_of_each_rows_allowed_partners(
            rows in prop::collection::vec((0i32..4, -1i64..6, 0u8..5, -1i32..3), 1..40),
            season in matches(), sensor in matches(), gap in prop::option::of((0u64..3, 0u64..5)),
            max_cloud in prop::option::of(0f32..100.0),
            draw in prop::sample::select(vec![Draw::Uniform, Draw::Nearest, Draw::Farthest, Draw::Clear]),
        ) {
            // A time is a number of quarters of a year.
            let step = 91 * 86_400_000_000;
            let dates = Dates {
                timestamp: rows.iter().map(|r| if r.1 < 0 { i64::MIN } else { r.1 * step as i64 }).collect(),
                cloud: rows.iter().map(|r| if r.2 == 4 { f32::NAN } else { f32::from(r.2) * 33.4 }).collect(),
                sensor: rows.iter().map(|r| r.3).collect(),
            };
            let gap = gap.map(|(least, more)| (least * step, (least + more) * step));
            let places = Places::new(&rows.iter().map(|r| r.0).collect::<Vec<_>>());
            let pairs = Pairs::new(places, Policy { season, gap, max_cloud, sensor, draw }, dates).unwrap();
            let allowed: Vec<Vec<u32>> = (0..rows.len()).map(|row| pairs.allowed(row)).collect();
            let found = count(&pairs, 2);
            prop_assert_eq!(&found, &count(&pairs, 1));
            prop_assert_eq!(found.partnered, allowed.iter().map(|a| !a.is_empty()).collect::<Vec<_>>());
            prop_assert_eq!(found.pairs, allowed.iter().map(|a| a.len() as u64).sum::<u64>() / 2);
            let mut dates: Vec<u32> = (0..rows.len() as u32).filter(|&row| pairs.usable(row as usize)).collect();
            let one_place = Pairs { places: Places::new(&vec![0; rows.len()]), ..pairs.clone() };
            let partners = by_keys(&one_place, &mut dates);
            for (&row, n) in dates.iter().zip(partners) {
                prop_assert_eq!(one_place.allowed(row as usize).len() as u64, n);
            }
            for (row, others) in allowed.iter().enumerate() {
                prop_assert!(others.iter().all(|&other| allowed[other as usize].contains(&(row as u32))));
            }
        }
    }
}
