//! Values of a sidecar's JSON in all the ways that they are written.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// A number, a number in quotes, or nothing (null, "").
#[derive(Default, Clone, Copy)]
pub(super) struct Number(pub Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_f64<E>(self, v: f64) -> Result<Number, E> {
                Ok(Number(Some(v)))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Number, E> {
                Ok(Number(Some(v as f64)))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Number, E> {
                Ok(Number(Some(v as f64)))
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Number, E> {
                match v.trim() {
                    "" => Ok(Number(None)),
                    v => {
                        let value = v.parse().map_err(|_| E::custom(format_args!("{v:?} is not a number")))?;
                        Ok(Number(Some(value).filter(|v: &f64| v.is_finite())))
                    }
                }
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// A text, a number as text, or nothing (null), which is "".
#[derive(Default)]
pub(super) struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(v.trim())))
            }
            fn visit_str<E>(self, v: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(v.trim().to_owned())))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(v.to_string())))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(v.to_string())))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(v.to_string())))
            }
            fn visit_unit<E>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// Four numbers, or None for anything else.
#[derive(Default)]
pub(super) struct Rect(pub Option<[i64; 4]>);

impl<'de> Deserialize<'de> for Rect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Any real image is smaller, and sums of two sides stay far from overflow.
        const LARGEST: f64 = 1e9;
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Rect;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of numbers")
            }
            fn visit_unit<E>(self) -> Result<Rect, E> {
                Ok(Rect(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rect, A::Error> {
                let (mut sides, mut count, mut good) = ([0; 4], 0, true);
                while let Some(Number(value)) = seq.next_element()? {
                    match (sides.get_mut(count), value.filter(|v| v.abs() <= LARGEST)) {
                        (Some(side), Some(value)) => *side = value.round() as i64,
                        _ => good = false,
                    }
                    count += 1;
                }
                Ok(Rect(Some(sides).filter(|_| good && count == 4)))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}
