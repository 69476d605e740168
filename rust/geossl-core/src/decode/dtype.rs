//! The types that a file's samples may have.

/// Type of a file's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // their names say it
pub enum Dtype {
    Uint8,
    Uint16,
    Uint32,
    Int8,
    Int16,
    Int32,
    Float16,
    Float32,
    Float64,
}

impl Dtype {
    /// The name that numpy has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
        }
    }

    /// Bits of a sample as decoded: 8 or 16, unsigned, or 32, a float, which all other types become.
    pub fn bits(self) -> u8 {
        match self {
            Self::Uint8 => 8,
            Self::Uint16 => 16,
            _ => 32,
        }
    }

    /// Bytes of a sample in the file.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Uint8 | Self::Int8 => 1,
            Self::Uint16 | Self::Int16 | Self::Float16 => 2,
            Self::Uint32 | Self::Int32 | Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// Whether samples may be NaN.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float16 | Self::Float32 | Self::Float64)
    }

    /// Whether `value` is one that a sample may have.
    pub fn holds(self, value: f64) -> bool {
        let (least, most) = match self {
            Self::Uint8 => (0.0, 255.0),
            Self::Uint16 => (0.0, 65_535.0),
            Self::Uint32 => (0.0, f64::from(u32::MAX)),
            Self::Int8 => (-128.0, 127.0),
            Self::Int16 => (-32_768.0, 32_767.0),
            Self::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            _ => return true,
        };
        (least..=most).contains(&value)
    }
}
