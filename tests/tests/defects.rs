//! Failing today; each belongs into the file named above it once its defect is mended.

// reload.rs
#[tokio::test]
async fn a_bad_file_that_is_taken_away_again_leaves_no_fault_behind() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", OLD[0].0, "")).start().await;
    gateway.write("bad.yaml", BAD);
    gateway.until_readiness("faults", |detail| detail["faults_total"] != 0).await;
    gateway.remove("bad.yaml");
    gateway.until_profiles(1).await;
    assert_eq!(gateway.metric("podgate_policy_faults").await, Some(0.0));
}

// command_line.rs
/// The kubelet names variables after Services; one called `podgate` makes PODGATE_PORT.
#[tokio::test]
async fn variables_of_a_service_called_podgate_are_no_misspelt_settings() {
    let variables = [
        ("PODGATE_SERVICE_HOST", "10.0.0.1"),
        ("PODGATE_SERVICE_PORT", "7420"),
        ("PODGATE_SERVICE_PORT_GRPC", "7420"),
        ("PODGATE_PORT", "tcp://10.0.0.1:7420"),
        ("PODGATE_PORT_7420_TCP", "tcp://10.0.0.1:7420"),
        ("PODGATE_PORT_7420_TCP_ADDR", "10.0.0.1"),
    ];
    let ended = Binary::Podgate.run(&["config", "--print"], &variables).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

// authorize.rs, in place of `!matches!(status.code(), Code::Ok | Code::Unknown)`
//     assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");

// durability.rs
#[tokio::test]
async fn a_client_that_watches_health_does_not_hold_up_the_end() {
    let gateway = shop("").flag("--drain-timeout", "1h").start().await;
    let caller = Caller::of(&gateway).await;
    let mut health = HealthClient::new(caller.channel());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    gateway.terminate().await;
}
