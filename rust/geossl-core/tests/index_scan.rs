//! A folder in fMoW's layout, from files to rows.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::fs;
use std::path::Path;

use geossl_core::Result;
use geossl_core::index::{Kind, Known, Layout, Scan, scan};

/// The header of a 64 x 48 JPEG.
const JPEG: [u8; 15] = [0xFF, 0xD8, 0xFF, 0xC0, 0, 17, 8, 0, 48, 0, 64, 3, 0, 0, 0];

fn add(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn sidecar(boxes: &str) -> String {
    format!(
        r#"{{"timestamp": "2012-04-02T10:32:22Z", "raw_location": "POLYGON ((10 20, 12 20, 12 22, 10 22, 10 20))",
            "bounding_boxes": {boxes}}}"#
    )
}

fn planet(root: &Path) {
    let one = r#"{"ID": 2, "box": [1, 2, 10, 11]}"#;
    let two = format!(r#"[{{"ID": 1, "category": "port", "box": [20, 2, 100, 11]}}, {one}]"#);
    add(root, "train/zoo/zoo_1/zoo_1_0_rgb.jpg", JPEG);
    add(root, "train/zoo/zoo_1/zoo_1_0_rgb.json", sidecar(&two));
    add(root, "train/zoo/zoo_1/zoo_1_1_rgb.jpg", JPEG);
    add(root, "train/zoo/zoo_1/zoo_1_1_rgb.json", sidecar(one));
    add(root, "train/zoo/zoo_1/zoo_1_2_rgb.jpg", &JPEG[..9]);
    add(root, "val/zoo/zoo_1/zoo_1_0_rgb.jpg", JPEG);
    add(root, "val/zoo/zoo_1/zoo_1_0_msrgb.jpg", JPEG);
    add(root, "test/0000003/0000003_0_rgb.jpg", JPEG);
    add(root, "test_gt_mapping.json", r#"[{"input": "test_gt/zoo/zoo_9", "output": "test/0000003"}]"#);
}

fn scan_fmow(root: &Path, kind: Option<Kind>, threads: usize) -> Result<Scan> {
    scan::<&str>(root, Layout::Fmow(kind), &Known { paths: &[], stamps: &[] }, threads)
}

#[test]
fn rows_of_a_folder() {
    let root = tempfile::tempdir().unwrap();
    planet(root.path());
    let scan = scan_fmow(root.path(), None, 1).unwrap();
    let columns = &scan.columns;
    let places: Vec<_> = columns.location_id.iter().collect();
    assert_eq!(
        places,
        ["test/0000003", "train/zoo/zoo_1#1", "train/zoo/zoo_1#2", "train/zoo/zoo_1#2", "val/zoo/zoo_1"]
    );
    assert_eq!(columns.category.iter().collect::<Vec<_>>(), ["zoo", "port", "zoo", "zoo", "zoo"]);
    assert_eq!(columns.split.iter().collect::<Vec<_>>(), ["test", "train", "train", "train", "val"]);
    assert_eq!(columns.box_x, [-1, 20, 1, 1, -1]);
    assert_eq!(columns.box_w, [-1, 44, 10, 10, -1]);
    assert_eq!((&columns.width[..1], &columns.height[..1]), (&[64][..], &[48][..]));
    assert!((columns.lat[1] - 21.0).abs() < 1e-9 && (columns.lon[1] - 11.0).abs() < 1e-9);
    assert!(columns.lat[0].is_nan());
    assert_eq!(columns.timestamp[..2], [i64::MIN, 1_333_362_742_000_000]);
    assert_eq!((scan.kind, scan.found, scan.no_sidecar), (Some(Kind::Rgb), [5, 1, 0], 2));
    let rejected = ("train/zoo/zoo_1/zoo_1_2_rgb.jpg".to_owned(), "the header is cut short".to_owned());
    assert_eq!(scan.rejected, [rejected]);
    for threads in [0, 2, 5] {
        // NaN equals nothing, so that the texts are compared.
        assert_eq!(format!("{:?}", scan_fmow(root.path(), None, threads).unwrap()), format!("{scan:?}"));
    }
}

#[test]
fn other_kinds_and_empty_folders() {
    let root = tempfile::tempdir().unwrap();
    planet(root.path());
    let scan = scan_fmow(root.path(), Some(Kind::Msrgb), 2).unwrap();
    assert_eq!(scan.columns.path.iter().collect::<Vec<_>>(), ["val/zoo/zoo_1/zoo_1_0_msrgb.jpg"]);
    let empty = tempfile::tempdir().unwrap();
    let scan = scan_fmow(empty.path(), None, 2).unwrap();
    assert!(scan.columns.is_empty() && scan.kind.is_none());
    assert!(scan_fmow(&root.path().join("nowhere"), None, 1).is_err());
    add(root.path(), "test_gt_mapping.json", "{");
    assert!(scan_fmow(root.path(), None, 1).unwrap_err().to_string().contains("test_gt_mapping.json: not fMoW's list"));
}
