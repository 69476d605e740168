//! Images that show the same ground: groups by the overlap of their footprints.

use std::collections::HashMap;

use crate::geo::{dot, unit_vector};

/// Intersection over union from which two footprints are one place.
const OVERLAP: f64 = 0.5;
/// How much farther apart than the smaller footprint's radius the centres are looked for. Of two parallelograms that
/// overlap by half, each holds the other's centre; footprints on the globe are nearly that.
const REACH: f64 = 1.5;
/// Footprints that overlap by half have radii within this power of two of each other: at least half of the larger
/// one lies in the smaller one, and half of a convex shape has more than 0.29 of its length.
const LEVELS: i32 = 3;

type Vector = [f64; 3];

/// The founder of each footprint's place, as its position; None where a corner is not finite.
///
/// In order, each footprint joins the first place whose founder it overlaps by half (intersection over union), else
/// founds one: no chain of neighbours makes a place. Footprints are four corners in turn, (longitude, latitude) in
/// degrees; they may cross the antimeridian or hold a pole.
pub fn group(corners: &[[[f64; 2]; 4]]) -> Vec<Option<usize>> {
    let mut founders: HashMap<Cell, Vec<(usize, Footprint)>> = HashMap::new();
    let mut levels: Vec<i32> = Vec::new();
    corners
        .iter()
        .enumerate()
        .map(|(i, corners)| {
            let footprint = Footprint::new(corners)?;
            let own = footprint.level();
            let near = levels.iter().filter(|&level| (level - own).abs() <= LEVELS);
            let found = near
                .flat_map(|&level| Cell::of(footprint.centre, level).around())
                .filter_map(|cell| founders.get(&cell))
                .flatten()
                .filter(|(_, founder)| founder.same_place(&footprint))
                .map(|&(founder, _)| founder)
                .min();
            if found.is_none() {
                founders.entry(Cell::of(footprint.centre, own)).or_default().push((i, footprint));
                if !levels.contains(&own) {
                    levels.push(own);
                }
            }
            Some(found.unwrap_or(i))
        })
        .collect()
}

/// A cube of space that founders of one size are looked up by; on the sphere itself there are no seams.
#[derive(PartialEq, Eq, Hash)]
struct Cell {
    level: i32,
    at: [i64; 3],
}

impl Cell {
    fn of(centre: Vector, level: i32) -> Self {
        let side = REACH * f64::from(level).exp2();
        Self { level, at: centre.map(|v| (v / side).floor() as i64) }
    }

    /// The cell and those that touch it: all within its side of any point in it.
    fn around(self) -> impl Iterator<Item = Self> {
        (0..27).map(move |n| {
            let [x, y, z] = self.at;
            Self { level: self.level, at: [x + n % 3 - 1, y + n / 3 % 3 - 1, z + n / 9 - 1] }
        })
    }
}

struct Footprint {
    corners: [Vector; 4],
    centre: Vector,
    /// Largest chord from the centre to a corner; the Earth's radius is 1.
    radius: f64,
}

impl Footprint {
    fn new(corners: &[[f64; 2]; 4]) -> Option<Self> {
        if !corners.as_flattened().iter().all(|v| v.is_finite()) {
            return None;
        }
        let corners = corners.map(|[lon, lat]| unit_vector(lat, lon));
        let sum = corners.iter().fold([0.0; 3], |s, c| [s[0] + c[0], s[1] + c[1], s[2] + c[2]]);
        let length = dot(sum, sum).sqrt();
        // Corners that cancel out are those of half the globe or more: any of them stands for the centre.
        let centre = if length > 1e-9 { sum.map(|v| v / length) } else { corners[0] };
        let radius = corners.iter().map(|&c| chord(c, centre)).fold(0.0, f64::max);
        Some(Self { corners, centre, radius })
    }

    /// The power of two that the radius is below; a point is as small as a hair's breadth.
    fn level(&self) -> i32 {
        self.radius.max(1e-12).log2().ceil() as i32
    }

    fn same_place(&self, other: &Self) -> bool {
        if self.corners == other.corners {
            return true; // also where the corners span no area: a point, or the whole globe
        }
        if chord(self.centre, other.centre) > REACH * self.radius.min(other.radius) {
            return false;
        }
        let plane = Plane::at(self.centre);
        let (a, b) = (plane.polygon(&self.corners), plane.polygon(&other.corners));
        let shared = area(&clip(&a, &b));
        shared > 0.0 && shared >= OVERLAP * (area(&a) + area(&b) - shared)
    }
}

fn chord(a: Vector, b: Vector) -> f64 {
    let d = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    dot(d, d).sqrt()
}

/// Lambert's azimuthal equal-area projection: areas in it are those on the sphere.
struct Plane {
    centre: Vector,
    right: Vector,
    up: Vector,
}

impl Plane {
    fn at(centre: Vector) -> Self {
        // Any vector that is not parallel to the centre's.
        let other = if centre[2].abs() < 0.9 { [0.0, 0.0, 1.0] } else { [1.0, 0.0, 0.0] };
        let right = cross(other, centre);
        let length = dot(right, right).sqrt();
        let right = right.map(|v| v / length);
        Self { centre, right, up: cross(centre, right) }
    }

    /// The corners in the plane, counterclockwise.
    fn polygon(&self, corners: &[Vector; 4]) -> Vec<[f64; 2]> {
        let mut points: Vec<[f64; 2]> = corners
            .iter()
            .map(|&corner| {
                let scale = (2.0 / (1.0 + dot(corner, self.centre)).max(1e-12)).sqrt();
                [scale * dot(corner, self.right), scale * dot(corner, self.up)]
            })
            .collect();
        if signed_area(&points) < 0.0 {
            points.reverse();
        }
        points
    }
}

fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn area(points: &[[f64; 2]]) -> f64 {
    signed_area(points).max(0.0)
}

/// Positive for counterclockwise points.
fn signed_area(points: &[[f64; 2]]) -> f64 {
    let next = points.iter().cycle().skip(1);
    points.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>() / 2.0
}

/// The part of `subject` within `window` (Sutherland and Hodgman, 1974); both are convex and counterclockwise.
fn clip(subject: &[[f64; 2]], window: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut kept = subject.to_vec();
    for (a, b) in window.iter().zip(window.iter().cycle().skip(1)) {
        let inside = |p: &[f64; 2]| (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]);
        let points = std::mem::take(&mut kept);
        for (p, q) in points.iter().zip(points.iter().cycle().skip(1)) {
            let (at_p, at_q) = (inside(p), inside(q));
            if at_p >= 0.0 {
                kept.push(*p);
            }
            if (at_p >= 0.0) != (at_q >= 0.0) {
                let t = at_p / (at_p - at_q);
                kept.push([p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])]);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::group;

    /// A square of `side` degrees of latitude around a point.
    fn square(lon: f64, lat: f64, side: f64) -> [[f64; 2]; 4] {
        let (dx, dy) = (side / 2.0 / lat.to_radians().cos(), side / 2.0);
        [[lon - dx, lat + dy], [lon + dx, lat + dy], [lon + dx, lat - dy], [lon - dx, lat - dy]]
    }

    fn founders(corners: &[[[f64; 2]; 4]]) -> Vec<usize> {
        group(corners).into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn half_of_the_union_is_the_limit() {
        // Squares shifted by s of their side share (1 - s) / (1 + s): half at s = 1/3.
        let (inside, outside) = (square(10.0 + 0.0332, 0.0, 0.1), square(10.0 + 0.0335, 0.0, 0.1));
        assert_eq!(founders(&[square(10.0, 0.0, 0.1), inside, outside]), [0, 0, 2]);
        // Concentric squares of half the area.
        let (inside, outside) = (square(0.0, 40.0, 0.708), square(0.0, 40.0, 0.706));
        assert_eq!(founders(&[square(0.0, 40.0, 1.0), inside, outside]), [0, 0, 2]);
    }

    #[test]
    fn neighbours_do_not_chain() {
        let chips: Vec<_> = (0..7).map(|i| square(f64::from(i) * 0.025, 0.0, 0.1)).collect();
        assert_eq!(founders(&chips), [0, 0, 2, 2, 4, 4, 6]);
    }

    #[test]
    fn the_first_place_wins_over_the_nearest() {
        assert_eq!(founders(&[square(0.0, 0.0, 0.1), square(0.05, 0.0, 0.1), square(0.03, 0.0, 0.1)]), [0, 1, 0]);
    }

    #[test]
    fn across_the_antimeridian_and_at_the_pole() {
        assert_eq!(
            founders(&[square(179.99, 5.0, 0.1), square(-179.995, 5.0, 0.1), square(-179.9, 5.0, 0.1)]),
            [0, 0, 2]
        );
        let around = |turn: f64| [0.0, 90.0, 180.0, -90.0].map(|lon| [lon + turn, 89.0]);
        assert_eq!(founders(&[around(0.0), around(20.0), square(0.0, 85.0, 0.1)]), [0, 0, 2]);
    }

    #[test]
    fn turned_corners_and_odd_shapes() {
        let mut turned = square(5.0, 5.0, 1.0);
        turned.reverse();
        let point = [[3.0, 3.0]; 4];
        let nothing = [[f64::NAN, 0.0]; 4];
        let globe = [[-180.0, 90.0], [180.0, 90.0], [180.0, -90.0], [-180.0, -90.0]];
        let got = group(&[square(5.0, 5.0, 1.0), turned, point, point, nothing, globe, globe]);
        assert_eq!(got, [Some(0), Some(0), Some(2), Some(2), None, Some(5), Some(5)]);
    }

    #[test]
    fn as_every_pair_compared() {
        let mut state = 7_u64;
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let chips: Vec<_> =
            (0..800).map(|_| square(179.0 + 2.0 * unit(), 60.0 + unit(), 0.05 + 0.4 * unit() * unit())).collect();
        let prints: Vec<_> = chips.iter().map(|c| super::Footprint::new(c).unwrap()).collect();
        let mut first: Vec<usize> = Vec::new();
        let want: Vec<usize> = (0..chips.len())
            .map(|i| {
                let found = first.iter().copied().find(|&f| prints[f].same_place(&prints[i]));
                found.unwrap_or_else(|| {
                    first.push(i);
                    i
                })
            })
            .collect();
        assert!(first.len() > 50 && first.len() < 700, "{}", first.len());
        assert_eq!(founders(&chips), want);
    }
}
