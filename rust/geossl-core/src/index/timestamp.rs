//! ISO 8601 timestamps.

/// Microseconds since 1970-01-01T00:00:00Z of `2012-04-02T10:32:22Z`.
///
/// The fraction of a second may have any number of digits (those after the sixth are cut off), `T` may be a space, the
/// zone may be `Z`, an offset (`+02:00`, `+0200`, `+02`) or absent (UTC), and a date alone is its midnight.
/// None for anything else, such as a day that the calendar does not have.
pub fn micros(text: &str) -> Option<i64> {
    let text = text.trim_ascii().as_bytes();
    let (date, rest) = text.split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return None };
    let (year, month, day) = (digits(&[y1, y2, y3, y4])?, digits(&[m1, m2])?, digits(&[d1, d2])?);
    if year == 0 || !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * 86_400_000_000;
    let [b'T' | b't' | b' ', time @ ..] = rest else {
        return rest.is_empty().then_some(midnight);
    };
    let (hms, rest) = time.split_at_checked(8)?;
    let [h1, h2, b':', n1, n2, b':', s1, s2] = *hms else { return None };
    let (hour, minute, second) = (digits(&[h1, h2])?, digits(&[n1, n2])?, digits(&[s1, s2])?);
    // A leap second, 60, is the first of the next minute, as POSIX has it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(rest)?;
    Some(midnight + ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction - offset_minutes(zone)? * 60_000_000)
}

/// Microseconds of `.123456789`, and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.' | b',', rest @ ..] = text else { return Some((0, text)) };
    let n = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    if n == 0 {
        return None;
    }
    let micros = (0..6).map(|i| if i < n { i64::from(rest[i] - b'0') } else { 0 }).fold(0, |v, d| v * 10 + d);
    Some((micros, &rest[n..]))
}

/// Minutes that the zone is ahead of UTC.
fn offset_minutes(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2] => (sign, digits(&[h1, h2])?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, digits(&[h1, h2])?, digits(&[m1, m2])?),
        _ => return None,
    };
    let ahead = (hours <= 23 && minutes <= 59).then_some(hours * 60 + minutes)?;
    match sign {
        b'+' => Some(ahead),
        b'-' => Some(-ahead),
        _ => None,
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |v, c| c.is_ascii_digit().then(|| v * 10 + i64::from(c - b'0')))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar, with years that begin in March so that the leap day is the last.
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{days_in_month, days_since_1970, micros};

    #[test]
    fn known_instants() {
        // From `date -u -d ... +%s`.
        for (text, want) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2012-04-02T10:32:22Z", 1_333_362_742_000_000),
            ("2012-04-02T10:32:22", 1_333_362_742_000_000),
            ("2012-04-02 10:32:22", 1_333_362_742_000_000),
            (" 2012-04-02T10:32:22Z\n", 1_333_362_742_000_000),
            ("2012-04-02T10:32:22.5Z", 1_333_362_742_500_000),
            ("2012-04-02T10:32:22.000001", 1_333_362_742_000_001),
            ("2012-04-02T10:32:22.123456789Z", 1_333_362_742_123_456),
            ("2012-04-02T12:32:22+02:00", 1_333_362_742_000_000),
            ("2012-04-02T05:02:22-0530", 1_333_362_742_000_000),
            ("2012-04-02", 1_333_324_800_000_000),
            ("2000-02-29T23:59:60Z", 951_868_800_000_000),
            ("1969-12-31T23:59:59.75Z", -250_000),
        ] {
            assert_eq!(micros(text), Some(want), "{text}");
        }
    }

    #[test]
    fn rejected() {
        for text in [
            "",
            "2012",
            "2012-13-01",
            "2012-00-01",
            "2011-02-29",
            "1900-02-29T00:00:00Z",
            "2012-04-31",
            "0000-01-01",
            "2012-04-02T",
            "2012-04-02T10:32",
            "2012-04-02T24:00:00",
            "2012-04-02T10:60:00",
            "2012-04-02T10:32:61Z",
            "2012-04-02T10:32:22.Z",
            "2012-04-02T10:32:22ZZ",
            "2012-04-02T10:32:22+",
            "2012-04-02T10:32:22*02",
            "2012-04-02T10:32:22+24:00",
            "02/04/2012 10:32:22",
            "2012-4-2T10:32:22Z",
            "²012-04-02",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_follows_the_last() {
        let mut days = days_since_1970(1599, 12, 31);
        for year in 1600..2401 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    days += 1;
                    assert_eq!(days_since_1970(year, month, day), days);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC*") {
            let _ = micros(&text);
            let _ = micros(&format!("2012-04-02T10:32:22{text}"));
        }

        #[test]
        fn times_add_up(day in 1i64..29, hour in 0i64..24, minute in 0i64..60, second in 0i64..60, us in 0i64..1_000_000) {
            let want = (days_since_1970(2016, 2, day) * 86400 + hour * 3600 + minute * 60 + second) * 1_000_000 + us;
            let text = format!("2016-02-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z");
            prop_assert_eq!(micros(&text), Some(want));
        }
    }
}
