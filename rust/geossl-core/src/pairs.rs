//! Places and their dates: which image is the partner of which.

use crate::rng::Draws;

/// The rows of each place, and the place of each row.
#[derive(Debug, Clone)]
pub struct Places {
    starts: Vec<usize>,
    members: Vec<u32>,
    place: Vec<u32>,
}

impl Places {
    /// Groups rows 0..n by their place's code; codes need not be dense.
    pub fn new(codes: &[i32]) -> Self {
        let mut rows: Vec<u32> = (0..codes.len() as u32).collect();
        rows.sort_by_key(|&row| (codes[row as usize], row));
        let mut starts = Vec::new();
        let mut place = vec![0; codes.len()];
        for (i, &row) in rows.iter().enumerate() {
            if i == 0 || codes[row as usize] != codes[rows[i - 1] as usize] {
                starts.push(i);
            }
            place[row as usize] = (starts.len() - 1) as u32;
        }
        starts.push(rows.len());
        Self { starts, members: rows, place }
    }

    /// Number of places.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of the place that `row` belongs to, ascending.
    pub fn dates(&self, row: usize) -> &[u32] {
        let place = self.place[row] as usize;
        &self.members[self.starts[place]..self.starts[place + 1]]
    }

    /// Another date of the place of `row`, each with the same probability; `row` itself where there is no other.
    pub fn partner(&self, row: usize, draws: &mut Draws) -> usize {
        let dates = self.dates(row);
        if dates.len() < 2 {
            return row;
        }
        let own = dates.partition_point(|&r| (r as usize) < row);
        let other = draws.below(dates.len() - 1);
        dates[if other < own { other } else { other + 1 }] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stage;

    #[test]
    fn partners_are_the_other_dates_uniformly() {
        let places = Places::new(&[7, 3, 7, 9, 7, 7, 3]);
        assert_eq!(places.len(), 3);
        assert_eq!(places.dates(4), [0, 2, 4, 5]);
        let mut counts = [0u32; 7];
        for sample in 0..3000 {
            let mut draws = Draws::new(1, 0, sample, 1, Stage::Partner);
            counts[places.partner(2, &mut draws)] += 1;
            assert_eq!(places.partner(3, &mut draws), 3);
            assert_eq!(places.partner(1, &mut draws), 6);
        }
        for row in [0, 4, 5] {
            assert!((900..1100).contains(&counts[row]), "{counts:?}");
        }
        assert_eq!(counts[2], 0);
    }
}
