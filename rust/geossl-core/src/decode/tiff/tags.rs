//! What a TIFF says of samples without data: alpha and GDAL's nodata value.

use super::ifd::{Directory, Reader, Window};
use crate::Result;
use crate::decode::dtype::Dtype;

const EXTRA_SAMPLES: u16 = 338;
pub const GDAL_METADATA: u16 = 42112;
const GDAL_NODATA: u16 = 42113;

/// The number of the first of `samples` that is alpha. GDAL's metadata has the last word: GDAL marks the fourth of four
/// bands as alpha unless it is told otherwise, and what it is told stands there.
pub fn alpha(reader: &Reader<'_>, window: &mut Window, directory: &Directory, samples: u16) -> Result<Option<u16>> {
    let mut extras = Vec::new();
    if let Some(entry) = directory.get(EXTRA_SAMPLES) {
        for n in 0..entry.count.min(u64::from(samples) - 1) {
            extras.push(reader.number(window, entry, n)?);
        }
    }
    let metadata = directory.get(GDAL_METADATA).map_or(Ok(None), |entry| reader.text(window, entry))?;
    let roles = metadata.as_deref().map(roles).unwrap_or_default();
    let first = usize::from(samples) - extras.len();
    Ok((0..samples).find(|&sample| {
        let said = roles.iter().rev().find(|(number, _)| *number == sample);
        said.map_or_else(
            // 999 is what some old writers mean by it.
            || usize::from(sample).checked_sub(first).is_some_and(|n| matches!(extras[n], 1 | 2 | 999)),
            |(_, role)| role.eq_ignore_ascii_case("alpha"),
        )
    }))
}

/// The meanings of samples in GDAL's metadata: `<Item name="COLORINTERP" sample="3" role="colorinterp">Alpha</Item>`.
fn roles(metadata: &str) -> Vec<(u16, &str)> {
    let item = |item: &'_ str| -> Option<(usize, usize, u16)> {
        let end = item.find('>')?;
        let head = &item[..end];
        let sample = head.split_once("sample=\"")?.1.split('"').next()?.parse().ok()?;
        let value = end + 1 + item[end + 1..].find('<')?;
        head.contains("role=\"colorinterp\"").then_some((end + 1, value, sample))
    };
    metadata.split("<Item ").skip(1).filter_map(|text| item(text).map(|(a, b, sample)| (sample, &text[a..b]))).collect()
}

/// GDAL's nodata tag, a number as text; None if no sample can have it.
pub fn nodata(reader: &Reader<'_>, window: &mut Window, directory: &Directory, dtype: Dtype) -> Result<Option<f64>> {
    let Some(entry) = directory.get(GDAL_NODATA) else { return Ok(None) };
    let value = reader.text(window, entry)?.and_then(|text| text.parse::<f64>().ok());
    Ok(value.filter(|&value| dtype.holds(value)))
}

#[cfg(test)]
mod tests {
    use super::roles;

    #[test]
    fn roles_of_samples() {
        let text = r#"<GDALMetadata><Item name="X">y</Item>
            <Item name="COLORINTERP" sample="3" role="colorinterp">Undefined</Item>
            <Item name="COLORINTERP" sample="4" role="colorinterp">Alpha</Item><Item sample="5" role="colorinterp">"#;
        assert_eq!(roles(text), [(3, "Undefined"), (4, "Alpha")]);
    }
}
