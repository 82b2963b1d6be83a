//! Generates the API's code. protox compiles the files, so no protoc is needed.

#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use protox::Compiler;

const FILES: [&str; 9] = [
    "podgate/v1/audit_service.proto",
    "podgate/v1/authorization_service.proto",
    "podgate/v1/common_ports_service.proto",
    "podgate/v1/grant_service.proto",
    "podgate/v1/profile_service.proto",
    "podgate/store/v1/occupancy.proto",
    "podgate/store/v1/store.proto",
    "podgate/store/v1/tombstone.proto",
    "podgate/upstream/v1/acl_backend_service.proto",
];

/// What Envoy asks, and all that these import.
const ENVOY_FILES: [&str; 2] =
    ["envoy/service/auth/v3/external_auth.proto", "envoy/service/ratelimit/v3/rls.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    if env::var_os("CARGO_FEATURE_ENVOY").is_some() {
        generate_envoy(&out)?;
    }
    println!("cargo::rerun-if-changed=podgate");
    let descriptors = protox::compile(FILES, ["."])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    generator().compile_fds(descriptors)?;
    Ok(())
}

/// Without comments: they are written for another tool, and rustdoc would take their examples for tests.
fn generate_envoy(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=vendored");
    let mut compiler = Compiler::new(["vendored"])?;
    compiler.include_imports(true).open_files(ENVOY_FILES)?;
    fs::write(out.join("envoy_descriptors.bin"), compiler.encode_file_descriptor_set())?;
    generator()
        .disable_comments(["."])
        .include_file("vendored.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn generator() -> tonic_prost_build::Builder {
    tonic_prost_build::configure()
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_transport(false)
}
