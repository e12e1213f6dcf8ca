//! Compiles the `.proto` files with protox, so that no protoc is needed on the machine.
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("protos");
    let files = ["common", "lane", "node", "gcs", "raylet"]
        .map(|name| root.join(format!("aktis/v1/{name}.proto")));
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [root])?;
    tonic_prost_build::configure()
        .bytes(".")
        // A frame is as large as the largest of its kinds and is moved several times per call: those that come once per lane
        // or function lie elsewhere.
        .boxed(".aktis.v1.LaneFrame.kind.hello")
        .boxed(".aktis.v1.LaneFrame.kind.call_template")
        .compile_fds(descriptors)?;
    Ok(())
}
