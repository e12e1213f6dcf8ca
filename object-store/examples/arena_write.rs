//! How fast can a client write a value into the arena? Compares the ways that exist, for memory
//! whose pages do not exist yet (cold), exist but are new to this process (resident), or were
//! written by this process before (mapped). The answer is in the documentation of
//! `aktis_object_store::client`, which cites this program:
//!
//! ```sh
//! cargo run --release -p aktis-object-store --example arena_write [megabytes] [rounds]
//! ```
#![cfg_attr(not(target_os = "linux"), allow(unused))]
#![allow(unsafe_code, reason = "compares raw ways of writing to shared memory")]

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this comparison is about Linux memory files");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |index| {
        std::env::args()
            .nth(index)
            .and_then(|arg| arg.parse::<f64>().ok())
    };
    let mebibytes = number(1).unwrap_or(200.0);
    let len = (mebibytes * f64::from(1 << 20)) as usize;
    let rounds = number(2).unwrap_or(5.0) as usize;
    let value: Vec<u8> = (0..len).map(|at| (at * 2_654_435_761) as u8).collect();
    println!(
        "{:<44} {:>9} {:>9} {:>9}",
        format!("{mebibytes} MiB, best of {rounds}, GB/s"),
        "cold",
        "resident",
        "mapped"
    );
    for way in ways::ALL {
        let rates = [
            ways::Pages::Cold,
            ways::Pages::Resident,
            ways::Pages::Mapped,
        ]
        .map(|pages| {
            let best = (0..rounds)
                .filter_map(|_| way.seconds(pages, &value))
                .min_by(f64::total_cmp);
            best.map_or("-".to_owned(), |seconds| {
                format!("{:.2}", len as f64 / seconds / 1e9)
            })
        });
        println!(
            "{:<44} {:>9} {:>9} {:>9}",
            way.name, rates[0], rates[1], rates[2]
        );
    }
    let ratio = ways::ratio_of_repeated_puts(&value, 4 * rounds);
    println!("the client writes again and again at {ratio:.2} of a copy into mapped shared memory");
    Ok(())
}

#[cfg(target_os = "linux")]
mod ways {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use std::time::Instant;

    use aktis_object_store::arena::{Arena, MemfdArena};
    use aktis_object_store::{ArenaHandle, ArenaMap, CreatingRange, SealedRange};
    use memmap2::{Advice, MmapMut, MmapOptions};

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) enum Pages {
        Cold,
        Resident,
        Mapped,
    }

    pub(super) struct Way {
        pub(super) name: &'static str,
        write: fn(&Setting, &[u8]),
        /// Whether there is a difference between resident and mapped pages.
        keeps_mapping: bool,
    }

    pub(super) const ALL: [Way; 8] = [
        Way {
            name: "copy, page faults as they come",
            write: copy,
            keeps_mapping: true,
        },
        Way {
            name: "MADV_POPULATE_WRITE, copy",
            write: populate_copy,
            keeps_mapping: true,
        },
        Way {
            name: "map the range, copy, unmap",
            write: window_copy,
            keeps_mapping: false,
        },
        Way {
            name: "map with MAP_POPULATE, copy, unmap",
            write: window_populate,
            keeps_mapping: false,
        },
        Way {
            name: "non-temporal stores",
            write: copy_non_temporal,
            keeps_mapping: true,
        },
        Way {
            name: "pwrite",
            write: pwrite,
            keeps_mapping: false,
        },
        Way {
            name: "server: CreatingRange::write",
            write: server_write,
            keeps_mapping: false,
        },
        Way {
            name: "client: CreatingRange::write",
            write: client_write,
            keeps_mapping: true,
        },
    ];

    /// A fresh arena and all ways into it.
    struct Setting {
        server: ArenaMap,
        client: ArenaMap,
        file: std::fs::File,
        map: MmapMut,
    }

    impl Way {
        /// How long it takes to write `value` to pages of this kind.
        pub(super) fn seconds(&self, pages: Pages, value: &[u8]) -> Option<f64> {
            if pages == Pages::Mapped && !self.keeps_mapping {
                return None;
            }
            let setting = Setting::new(value.len());
            if pages != Pages::Cold {
                // Makes the pages without mapping them here.
                pwrite(&setting, value);
            }
            if pages == Pages::Mapped {
                (0..2).for_each(|_| (self.write)(&setting, value));
            }
            let start = Instant::now();
            (self.write)(&setting, value);
            let seconds = start.elapsed().as_secs_f64();
            // SAFETY: nobody writes there any more.
            let written =
                unsafe { SealedRange::new(setting.client.clone(), 0, value.len() as u64, ()) };
            assert!(
                *written.expect("in bounds") == *value,
                "{} writes what it is given",
                self.name
            );
            Some(seconds)
        }
    }

    impl Setting {
        fn new(len: usize) -> Self {
            let arena = MemfdArena::create(len as u64).expect("an arena");
            let client = ArenaMap::from_handle(arena.handle().expect("a handle")).expect("a map");
            let Ok(ArenaHandle::Memfd { fd, .. }) = arena.handle() else {
                unreachable!("a memfd arena hands out memory files")
            };
            let file = std::fs::File::from(fd);
            let map = window(&file, len, false);
            Self {
                server: ArenaMap::from_memory(Arc::clone(arena.memory())),
                client,
                file,
                map,
            }
        }

        fn target(&self) -> *mut u8 {
            self.map.as_ptr().cast_mut()
        }
    }

    /// How the client compares with a plain copy into memory of the same kind, both of which have
    /// been written before: median of alternating rounds.
    pub(super) fn ratio_of_repeated_puts(value: &[u8], rounds: usize) -> f64 {
        let (setting, other) = (Setting::new(value.len()), Setting::new(value.len()));
        let seconds = |write: fn(&Setting, &[u8]), setting: &Setting| {
            let start = Instant::now();
            write(setting, value);
            start.elapsed().as_secs_f64()
        };
        let mut ratios: Vec<f64> = (0..rounds + 3)
            .map(|_| seconds(copy, &other) / seconds(client_write, &setting))
            .skip(3)
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }

    fn window(file: &std::fs::File, len: usize, is_populated: bool) -> MmapMut {
        let mut options = MmapOptions::new();
        options.len(len);
        if is_populated {
            options.populate();
        }
        // SAFETY: only this program uses the file, one way at a time.
        unsafe { options.map_mut(file) }.expect("a mapping")
    }

    fn copy(setting: &Setting, value: &[u8]) {
        // SAFETY: the mapping is as long as the value, and nobody else uses it.
        unsafe {
            setting
                .target()
                .copy_from_nonoverlapping(value.as_ptr(), value.len())
        };
    }

    fn populate_copy(setting: &Setting, value: &[u8]) {
        setting
            .map
            .advise(Advice::PopulateWrite)
            .expect("Linux 5.14");
        copy(setting, value);
    }

    fn window_copy(setting: &Setting, value: &[u8]) {
        window(&setting.file, value.len(), false).copy_from_slice(value);
    }

    fn window_populate(setting: &Setting, value: &[u8]) {
        window(&setting.file, value.len(), true).copy_from_slice(value);
    }

    fn pwrite(setting: &Setting, value: &[u8]) {
        setting.file.write_all_at(value, 0).expect("room");
    }

    fn server_write(setting: &Setting, value: &[u8]) {
        write(&setting.server, value);
    }

    fn client_write(setting: &Setting, value: &[u8]) {
        write(&setting.client, value);
    }

    fn write(arena: &ArenaMap, value: &[u8]) {
        // SAFETY: nobody else uses the arena meanwhile.
        let range = unsafe { CreatingRange::new(arena, 0, value.len() as u64) };
        range.expect("in bounds").write(&[value]).expect("room");
    }

    #[cfg(target_arch = "x86_64")]
    fn copy_non_temporal(setting: &Setting, value: &[u8]) {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        for at in (0..value.len() / 16 * 16).step_by(16) {
            // SAFETY: 16 bytes at `at` are within the value.
            let bytes = unsafe { _mm_loadu_si128(value.as_ptr().add(at).cast::<__m128i>()) };
            // SAFETY: the mapping is page-aligned and as long as the value.
            unsafe { _mm_stream_si128(setting.target().add(at).cast::<__m128i>(), bytes) };
        }
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn copy_non_temporal(setting: &Setting, value: &[u8]) {
        copy(setting, value);
    }
}
