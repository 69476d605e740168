//! The rows of each place.

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

    /// The rows of each place, ascending; places in the order of their codes.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.starts.windows(2).map(|ends| &self.members[ends[0]..ends[1]])
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.members.len()
    }

    /// Rows of the place that `row` belongs to, ascending.
    pub fn dates(&self, row: usize) -> &[u32] {
        let place = self.place[row] as usize;
        &self.members[self.starts[place]..self.starts[place + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_by_place() {
        let places = Places::new(&[7, 3, 7, 9, 7, 7, 3]);
        assert_eq!(places.len(), 3);
        assert_eq!(places.dates(4), [0, 2, 4, 5]);
        assert_eq!(places.iter().collect::<Vec<_>>(), [&[1, 6][..], &[0, 2, 4, 5], &[3]]);
    }
}
