//! Any bytes as a TIFF: its headers, and some rectangles at several sizes. Whatever they are, there is an error or an
//! image, soon, within the memory that is allowed.

#![no_main]

use std::path::Path;

use geossl_core::crop::Rect;
use geossl_core::decode::{self, Decoders, Encoded, Input, Raster, Want};
use geossl_core::index::header;
use libfuzzer_sys::fuzz_target;

const MAX_BYTES: u64 = 1 << 22;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzzed.tif");
    let _ = header::tiff(path, Input::Bytes(bytes));
    let mut decoders = Decoders::default();
    let Ok(image) = decode::open(path, Input::Bytes(bytes), &mut decoders, MAX_BYTES) else { return };
    let (width, height) = (image.width, image.height);
    let corner = Rect { x: width - 1, y: height - 1, width: 1, height: 1 };
    let middle = Rect { x: width / 3, y: height / 3, width: width.div_ceil(3), height: height.div_ceil(3) };
    let bands: Vec<Option<u16>> = vec![Some(image.bands - 1), None, Some(0)];
    let mut decode = |want| check(&image, want, image.decode(want, &mut decoders));
    decode(Want::all(image.rect()));
    decode(Want { nodata: Some(0), ..Want::all(corner) });
    decode(Want { nodata: Some(7), bands: Some(&bands), ..Want::all(middle) });
    decode(Want { shrink: 4, nodata: Some(255), ..Want::all(image.rect()) });
});

fn check(image: &Encoded<'_>, want: Want<'_>, decoded: geossl_core::Result<Raster>) {
    let Ok(raster) = decoded else { return };
    let (rect, bands) = (raster.rect, want.bands.map_or(usize::from(image.bands), <[_]>::len));
    assert!(rect.x <= want.rect.x && rect.x + rect.width >= want.rect.x + want.rect.width);
    assert!(rect.y <= want.rect.y && rect.y + rect.height >= want.rect.y + want.rect.height);
    let (width, height) = rect.shrunk(raster.shrink);
    let samples = match &raster.samples {
        decode::Samples::U8(values) => values.len(),
        decode::Samples::U16(values) => values.len(),
        decode::Samples::F32(values) => values.len(),
    };
    assert_eq!(samples, width as usize * height as usize * bands);
}
