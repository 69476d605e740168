//! Moves points out of clusters that are over a cap, along the cheapest chains of clusters: one point from each to
//! the next, until one has room. These are the successive shortest paths of minimum-cost flow (Ahuja, Magnanti and
//! Orlin, "Network Flows", 1993, section 9.7), on a graph of clusters: from one cluster to another goes the point that
//! costs least to move. Prices keep all lengths at 0 or more, so that Dijkstra's algorithm finds the path.

use super::chord2;
use super::filter::Centres;
use crate::parallel;

const NONE: u32 = u32::MAX;

/// The cheapest move from one cluster to another: what it adds to the cost, and the point; `NONE` where there is none.
#[derive(Clone, Copy)]
struct Move {
    cost: f64,
    point: u32,
}

const NO_MOVE: Move = Move { cost: f64::INFINITY, point: NONE };

impl Move {
    /// Whether this one is taken before the other: the cheaper, of equals that of the first point.
    fn before(self, other: Self) -> bool {
        self.cost.total_cmp(&other.cost).then(self.point.cmp(&other.point)).is_lt()
    }
}

pub(super) struct Chains<'a> {
    points: &'a [[f64; 3]],
    labels: Vec<u32>,
    centres: &'a mut Centres,
    cap: usize,
    /// Points of each cluster, and each point's place among them.
    members: Vec<Vec<u32>>,
    place: Vec<u32>,
    /// Cheapest moves: `moves[from][to]`.
    moves: Vec<Vec<Move>>,
}

impl<'a> Chains<'a> {
    /// Starts from points in the cluster that is cheapest by squared chord plus price.
    pub fn new(points: &'a [[f64; 3]], labels: Vec<u32>, centres: &'a mut Centres, cap: usize, threads: usize) -> Self {
        let k = centres.at.len();
        let mut members = vec![Vec::new(); k];
        let mut place = Vec::with_capacity(points.len());
        for (i, &label) in labels.iter().enumerate() {
            place.push(members[label as usize].len() as u32);
            members[label as usize].push(i as u32);
        }
        let mut chains = Self { points, labels, centres, cap, members, place, moves: Vec::new() };
        if chains.members.iter().any(|m| m.len() > cap) {
            chains.moves = parallel::map(k, threads, |from| (0..k).map(|to| chains.cheapest(from, to)).collect());
        }
        chains
    }

    /// Moves until no cluster is over the cap; the cluster of each point. The centres' prices are then those by which
    /// each point is in its cheapest cluster.
    pub fn settle(mut self) -> Vec<u32> {
        for from in 0..self.members.len() {
            while self.members[from].len() > self.cap {
                let Some(path) = self.shortest(from) else { return self.labels };
                for step in path.windows(2) {
                    let moved = self.moves[step[0]][step[1]].point;
                    self.shift(moved, step[0], step[1]);
                }
            }
        }
        self.labels
    }

    fn cost(&self, point: u32, from: usize, to: usize) -> Move {
        let p = self.points[point as usize];
        Move { cost: chord2(p, self.centres.at[to]) - chord2(p, self.centres.at[from]), point }
    }

    fn cheapest(&self, from: usize, to: usize) -> Move {
        if from == to {
            return NO_MOVE;
        }
        self.members[from].iter().map(|&p| self.cost(p, from, to)).fold(NO_MOVE, |a, b| if b.before(a) { b } else { a })
    }

    fn shift(&mut self, point: u32, from: usize, to: usize) {
        let place = self.place[point as usize] as usize;
        self.members[from].swap_remove(place);
        if let Some(&other) = self.members[from].get(place) {
            self.place[other as usize] = place as u32;
        }
        self.place[point as usize] = self.members[to].len() as u32;
        self.members[to].push(point);
        self.labels[point as usize] = to as u32;
        for other in 0..self.members.len() {
            if self.moves[from][other].point == point {
                self.moves[from][other] = self.cheapest(from, other);
            }
            let new = self.cost(point, to, other);
            if other != to && new.before(self.moves[to][other]) {
                self.moves[to][other] = new;
            }
        }
    }

    /// The cheapest path to a cluster with room, and prices by which its moves cost nothing and no move less.
    fn shortest(&mut self, from: usize) -> Option<Vec<usize>> {
        let k = self.members.len();
        let mut distance = vec![f64::INFINITY; k];
        let mut before = vec![from; k];
        // Distance of those not yet visited.
        let mut open = vec![f64::INFINITY; k];
        (distance[from], open[from]) = (0.0, 0.0);
        let prices = &self.centres.prices;
        let room = |to: usize| self.members[to].len() < self.cap;
        let highest = (0..k).filter(|&to| room(to)).map(|to| prices[to]).fold(0.0, f64::max);
        let mut end: Option<(usize, f64)> = None;
        loop {
            let here = least(&open);
            if open[here].is_infinite() {
                break;
            }
            open[here] = f64::INFINITY;
            // What is left can save no more than the highest price.
            if end.is_some_and(|(_, cost)| distance[here] - highest > cost) {
                break;
            }
            // Lengths are costs but for the prices of the ends.
            let cost = distance[here] - prices[here];
            if room(here) && end.is_none_or(|(_, best)| cost < best) {
                end = Some((here, cost));
            }
            let so_far = distance[here] - prices[here];
            for to in 0..k {
                // Rounding aside, a length is 0 or more: the visited are not reached again.
                let there = (so_far + prices[to] + self.moves[here][to].cost).max(distance[here]);
                if there < distance[to] {
                    (distance[to], open[to], before[to]) = (there, there, here);
                }
            }
        }
        let end = end?.0;
        for (price, d) in self.centres.prices.iter_mut().zip(&distance) {
            *price += distance[end] - d.min(distance[end]);
        }
        let mut path = vec![end];
        while path[path.len() - 1] != from {
            path.push(before[path[path.len() - 1]]);
        }
        path.reverse();
        Some(path)
    }
}

/// Where the least value stands, of equals the first.
fn least(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] < values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::super::filter::Centres;
    use super::super::tests::globe;
    use super::*;
    use crate::geo::unit_vector;

    /// Least cost of giving points to clusters of at most `cap`, by trying all.
    fn cheapest(points: &[[f64; 3]], at: &[[f64; 3]], cap: usize, sizes: &mut [usize]) -> f64 {
        let Some((first, rest)) = points.split_first() else { return 0.0 };
        let mut best = f64::INFINITY;
        for c in 0..at.len() {
            if sizes[c] < cap {
                sizes[c] += 1;
                best = best.min(chord2(*first, at[c]) + cheapest(rest, at, cap, sizes));
                sizes[c] -= 1;
            }
        }
        best
    }

    #[test]
    fn gives_the_cheapest_assignment_under_the_cap() {
        for seed in 0..30 {
            let (lat, lon) = globe(13, seed);
            let all: Vec<[f64; 3]> = lat.iter().zip(&lon).map(|(&a, &b)| unit_vector(a, b)).collect();
            let (at, points) = all.split_at(4);
            let prices = vec![0.0; 4];
            let centres = Centres { at: at.to_vec(), prices };
            let labels: Vec<u32> = points.iter().map(|&p| centres.cheapest(p)).collect();
            for cap in [3, 4] {
                let labels = Chains::new(points, labels.clone(), &mut centres.clone(), cap, 1).settle();
                let cost: f64 = points.iter().zip(&labels).map(|(&p, &l)| chord2(p, at[l as usize])).sum();
                assert!((cost - cheapest(points, at, cap, &mut [0; 4])).abs() < 1e-12);
                assert!((0..4).all(|c| labels.iter().filter(|&&l| l == c).count() <= cap));
            }
        }
    }
}
