//! Generates the API's code. protox compiles the files, so no protoc is needed.

#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

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

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=podgate");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
