//! From files to rows: layouts, sidecars and image headers.
