//! Arrays of numbers from Python and back.

use numpy::{Element, PyReadonlyArray1};

/// One column of numbers.
pub type Column<'py> = PyReadonlyArray1<'py, f64>;

/// A copy, as other threads of Python may change the array while the GIL is released.
pub fn own<T: Element + Copy>(column: &PyReadonlyArray1<'_, T>) -> Vec<T> {
    column.as_array().to_vec()
}

/// Numbers as the integers that arrays are indexed with.
pub fn wide(numbers: &[u32]) -> Vec<i64> {
    numbers.iter().map(|&n| i64::from(n)).collect()
}
