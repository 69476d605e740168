//! fMoW's file names, folders and splits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use crate::{Error, Result};

/// Which rendering of the scene a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Pan-sharpened, three bands: `_rgb`.
    Rgb,
    /// Multispectral, its three visible bands: `_msrgb`.
    Msrgb,
    /// Multispectral, four or eight bands: `_ms`.
    Ms,
}

impl Kind {
    /// All kinds, the preferred one first.
    pub const ALL: [Self; 3] = [Self::Rgb, Self::Msrgb, Self::Ms];

    /// As in the file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Msrgb => "msrgb",
            Self::Ms => "ms",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a file name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// None where the name hides it (the test set).
    pub category: Option<&'a str>,
    /// Category and location number (`airport_hangar_12`), or the number alone where the category is hidden.
    pub place: &'a str,
    /// View number: not in order of time.
    pub view: &'a str,
    /// Rendering.
    pub kind: Kind,
}

/// Whether the name ends as images do that can be read.
pub fn is_image(file_name: &str) -> bool {
    const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "tif", "tiff", "png"];
    file_name.rsplit_once('.').is_some_and(|(_, ext)| EXTENSIONS.iter().any(|e| ext.eq_ignore_ascii_case(e)))
}

/// Parses `<category>_<location>_<view>_<kind>.<extension>` from the right, as categories contain underscores, or
/// `<number>_<view>_<kind>.<extension>` of the test set. None for any other name.
pub fn parse_name(file_name: &str) -> Option<Name<'_>> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !is_image(file_name) {
        return None;
    }
    let (stem, _) = file_name.rsplit_once('.')?;
    let (rest, kind) = stem.rsplit_once('_')?;
    let kind = Kind::from_name(kind)?;
    let (place, view) = rest.rsplit_once('_')?;
    if !is_number(view) {
        return None;
    }
    if is_number(place) {
        return Some(Name { category: None, place, view, kind });
    }
    let (category, location) = place.rsplit_once('_')?;
    (is_number(location) && !category.is_empty()).then_some(Name { category: Some(category), place, view, kind })
}

/// Where an image lies, and what that says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// The place: the image's folder, or folder and name where the folder holds several places.
    pub location_id: Cow<'a, str>,
    /// Whether the file is a ready-made crop of a box (`<class>_<seq>/<class>_<box>/<image>`).
    pub is_crop: bool,
}

/// The place of an image in `folder`, which is relative to the root, '/'-separated, "" for the root itself.
pub fn place<'a>(folder: &'a str, name: &Name<'a>) -> Place<'a> {
    let mut parts = folder.rsplit('/');
    let (parent, grandparent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_crop = grandparent == name.place;
    let location_id = match (folder, is_crop || parent == name.place) {
        (_, true) => folder.into(),
        ("", false) => name.place.into(),
        (_, false) => format!("{folder}/{}", name.place).into(),
    };
    Place { location_id, is_crop }
}

/// `train`, `val` or `test`: the first folder of the path, else the name of the root, else None.
pub fn split(path: &str, root_name: &str) -> Option<&'static str> {
    let known = |name: &str| ["train", "val", "test"].into_iter().find(|&split| split == name);
    path.split_once('/').and_then(|(first, _)| known(first)).or_else(|| known(root_name))
}

/// Categories of the test set by its folders' names, from `test_gt_mapping.json` in the root; empty without it.
/// Fails if the file is there and is not what fMoW has.
pub fn read_test_categories(root: &Path) -> Result<HashMap<String, String>> {
    #[derive(serde::Deserialize)]
    struct Pair {
        input: String,
        output: String,
    }
    let path = root.join("test_gt_mapping.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(e) => return Err(Error::io(&path, &e)),
    };
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let pairs: Vec<Pair> = serde_json::from_slice(text)
        .map_err(|e| Error::data(&path, format!("not fMoW's list of {{\"input\", \"output\"}}: {e}")))?;
    let mut categories = HashMap::with_capacity(pairs.len());
    for Pair { input, output } in pairs {
        // "test_gt/<category>/<category>_<n>" and "test/<id>".
        let (category, id) =
            (input.split('/').nth(1).unwrap_or_default(), output.rsplit('/').next().unwrap_or_default());
        if category.is_empty() || id.is_empty() {
            return Err(Error::data(&path, format!("cannot read the pair {input:?}, {output:?}")));
        }
        categories.insert(id.to_owned(), category.to_owned());
    }
    Ok(categories)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Kind, Name, parse_name, place, split};

    #[test]
    fn names_are_read_from_the_right() {
        let table = [
            ("airport_0_12_rgb.jpg", Some("airport"), "airport_0", "12", Kind::Rgb),
            (
                "ground_transportation_station_12_3_msrgb.jpg",
                Some("ground_transportation_station"),
                "ground_transportation_station_12",
                "3",
                Kind::Msrgb,
            ),
            ("zoo_22_4_ms.tif", Some("zoo"), "zoo_22", "4", Kind::Ms),
            ("zone_5_12_0_rgb.TIFF", Some("zone_5"), "zone_5_12", "0", Kind::Rgb),
            ("0000123_4_rgb.jpg", None, "0000123", "4", Kind::Rgb),
            ("Cfb_1032_0_rgb.png", Some("Cfb"), "Cfb_1032", "0", Kind::Rgb),
        ];
        for (file, category, place, view, kind) in table {
            assert_eq!(parse_name(file), Some(Name { category, place, view, kind }), "{file}");
        }
        for file in [
            "",
            "rgb.jpg",
            "_rgb.jpg",
            "a_rgb.jpg",
            "airport_0_rgb.jpg",
            "airport_0_1.jpg",
            "airport_0_1_rgb.json",
            "airport_0_1_rgb",
            "airport_x_1_rgb.jpg",
            "airport_0_x_rgb.jpg",
            "_0_1_rgb.jpg",
            "airport_0_1_RGB.jpg",
            "airport_0_1_pan.tif",
            "__0_rgb.jpg",
        ] {
            assert_eq!(parse_name(file), None, "{file}");
        }
    }

    #[test]
    fn places() {
        for (folder, file, want, is_crop) in [
            ("train/airport/airport_0", "airport_0_1_rgb.jpg", "train/airport/airport_0", false),
            ("test/0000123", "0000123_1_rgb.jpg", "test/0000123", false),
            ("train/zoo/zoo_5/zoo_1", "zoo_5_0_rgb.jpg", "train/zoo/zoo_5/zoo_1", true),
            ("zoo_5", "zoo_5_0_rgb.jpg", "zoo_5", false),
            // A folder of several places is not one place.
            ("flat", "zoo_5_0_rgb.jpg", "flat/zoo_5", false),
            ("", "zoo_5_0_rgb.jpg", "zoo_5", false),
        ] {
            let got = place(folder, &parse_name(file).unwrap());
            assert_eq!((&*got.location_id, got.is_crop), (want, is_crop), "{folder}/{file}");
        }
    }

    #[test]
    fn splits() {
        assert_eq!(split("train/a/a_0/a_0_0_rgb.jpg", "fmow"), Some("train"));
        assert_eq!(split("a/a_0/a_0_0_rgb.jpg", "val"), Some("val"));
        assert_eq!(split("test/0000001/x.jpg", "train"), Some("test"));
        assert_eq!(split("seq/a/a_0/a_0_0_rgb.jpg", "fmow"), None);
        assert_eq!(split("train", "fmow"), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC*") {
            let _ = parse_name(&text);
            if let Some(name) = parse_name(&format!("{text}_rgb.jpg")) {
                let _ = place(&text, &name);
            }
        }

        #[test]
        fn names_round_trip(
            category in "[a-z][a-z_0-9]{0,20}", location in 0u32..1_000_000, view in 0u32..1000, kind in 0usize..3,
            ext in prop::sample::select(vec!["jpg", "jpeg", "tif", "tiff", "png", "JPG"]),
        ) {
            let kind = Kind::ALL[kind];
            let place = format!("{category}_{location}");
            let file = format!("{place}_{view}_{}.{ext}", kind.name());
            let view = view.to_string();
            prop_assert_eq!(parse_name(&file), Some(Name { category: Some(&category), place: &place, view: &view, kind }));
        }
    }
}
