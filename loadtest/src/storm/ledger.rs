//! Compares the grants that pods were told with those that the gateway holds.

use std::collections::HashSet;

use podgate_client::Endpoint;
use podgate_proto::v1::{GrantServiceListRequest, grant_service_client::GrantServiceClient};

use crate::storm::{
    StormError,
    apply::{channel, patience},
};

/// The largest page that the gateway gives.
const PAGE: i32 = 1000;
/// Most pages that are read: the most living grants that one app, and so the storm's, may hold.
const PAGES_MAX: u32 = 100_000;

/// How many of the `acknowledged` grants the gateway does not list any more.
pub(crate) async fn lost(endpoint: &Endpoint, acknowledged: Vec<String>) -> Result<u32, StormError> {
    let mut missing: HashSet<String> = acknowledged.into_iter().collect();
    let mut client = GrantServiceClient::new(channel(endpoint).await?);
    let mut page_token = String::new();
    for _ in 0..PAGES_MAX {
        let request =
            GrantServiceListRequest { page_size: PAGE, page_token, ..GrantServiceListRequest::default() };
        let mut tries = 0;
        let page = loop {
            match client.list(request.clone()).await {
                Ok(page) => break page.into_inner(),
                Err(status) => {
                    tries += 1;
                    let wait = patience(&status, tries).ok_or_else(|| StormError::Call {
                        what: "listing the grants".to_owned(),
                        status: Box::new(status),
                    })?;
                    tokio::time::sleep(wait).await;
                }
            }
        };
        for grant in page.grants {
            missing.remove(&grant.grant_id);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(u32::try_from(missing.len()).unwrap_or(u32::MAX))
}
