use geossl_core::crop::Rect;
use geossl_core::decode::{self, Decoders, Input, Want};
use std::path::Path;
use std::time::Instant;
fn main() {
    let mut d = Decoders::default();
    for p in std::env::args().skip(1) {
        let path = Path::new(&p);
        let mut best = f64::MAX;
        let mut codec = f64::MAX;
        let mut blocks: Vec<Vec<u8>> = vec![];
        let mut sizes = vec![];
        let mut kind = 0;
        for l in std::fs::read_to_string(format!("{p}.blocks")).unwrap().lines() {
            let v: Vec<u64> = l.split(' ').map(|x| x.parse().unwrap()).collect();
            kind = v[3];
            let f = std::fs::read(path).unwrap();
            blocks.push(f[v[0] as usize..(v[0] + v[1]) as usize].to_vec());
            sizes.push(v[2] as usize);
        }
        let mut inf = libdeflater::Decompressor::new();
        let mut zs = zstd::bulk::Decompressor::new().unwrap();
        let mut lz = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
        let mut out = vec![0u8; *sizes.iter().max().unwrap()];
        for _ in 0..40 {
            let t = Instant::now();
            let mut b = Vec::new();
            let i = Input::open(path, &mut b, 1 << 30).unwrap();
            let img = decode::open(path, i, &mut d, 1 << 30).unwrap();
            let r = img.decode(Want::all(Rect { x: 0, y: 0, width: img.width, height: img.height }), &mut d).unwrap();
            best = best.min(t.elapsed().as_secs_f64());
            d.recycle(r);
            let t = Instant::now();
            for (b, s) in blocks.iter().zip(&sizes) {
                let o = &mut out[..*s];
                match kind {
                    8 | 32946 => {
                        inf.zlib_decompress(b, o).unwrap();
                    }
                    50000 => {
                        zs.decompress_to_buffer(b, o).unwrap();
                    }
                    5 => {
                        lz.reset();
                        let mut f = &b[..];
                        let mut o = &mut o[..];
                        while !o.is_empty() {
                            let r = lz.decode_bytes(f, o);
                            f = &f[r.consumed_in..];
                            o = &mut o[r.consumed_out..];
                            r.status.unwrap();
                        }
                    }
                    _ => o[..b.len()].copy_from_slice(b),
                }
            }
            codec = codec.min(t.elapsed().as_secs_f64());
        }
        println!(
            "{:12} all {:.2} ms codec {:.2} ms share {:.2}",
            path.file_stem().unwrap().to_str().unwrap(),
            best * 1e3,
            codec * 1e3,
            codec / best
        );
    }
}
