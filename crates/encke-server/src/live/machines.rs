//! Calls about virtual machines and images of disks, which go to a device. Each administrator's call has a user's twin (reference, section 11).

use super::dispatcher::{Asker, ask, read};
use crate::app::App;
use crate::auth::{Admin, User};
use crate::table::{Call, Doc, Route};
use encke_api::endpoint::Role;
use encke_api::form::Json;
use encke_api::live::{Noted, ProxmoxQuestion, Request};
use encke_api::types::{
    BrowseProxmoxNodesResponse, BrowseProxmoxResponse, BrowseProxmoxStorageResponse,
    DispatcherListSnapshotVirtualMachinesResponse, DispatcherWindiskSnapshotResponse, PVEVM,
    ProxmoxConnection, SSHConnection, VMDiskInfo, VMInfo,
};
use encke_api::{ApiResult, params};
use serde::de::DeserializeOwned;
use std::sync::Arc;

params! {
    /// Parameters of the request-browse-proxmox calls.
    struct Machines {
        /// Id of the live connection.
        TargetID: String,
        /// How the device logs in to a host.
        Credentials: Json<ProxmoxConnection>
    }
}

params! {
    /// Parameters of the request-browse-proxmox/nodes calls.
    struct Nodes {
        /// Id of the live connection.
        TargetID: String,
        /// How the device logs in to a host.
        Credentials: Json<SSHConnection>
    }
}

params! {
    /// Parameters of the request-browse-proxmox/storage calls.
    struct Storage {
        /// Id of the live connection.
        TargetID: String,
        /// How the device logs in to a host.
        Credentials: Json<SSHConnection>,
        /// Only what this node has.
        Node: Option<String>
    }
}

params! {
    /// Parameters of the browse-virtual-machines calls.
    struct InSnapshot {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        DestinationID: String,
        /// The snapshot.
        SnapshotID: String
    }
}

params! {
    /// Parameters of the request-windisk-snapshot calls.
    struct Image {
        /// Id of the live connection.
        TargetID: String,
        /// Id of the Storage Vault.
        Destination: String,
        /// The snapshot.
        SnapshotID: String
    }
}

async fn proxmox<T: DeserializeOwned>(
    app: &App,
    who: &impl Asker,
    target: &str,
    connection: SSHConnection,
    question: ProxmoxQuestion,
) -> ApiResult<T> {
    let connection = Box::new(connection);
    read(ask(app, who, target, Request::BrowseProxmox { connection, question }).await?)
}

async fn machines<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<Machines>,
) -> ApiResult<Doc<BrowseProxmoxResponse>> {
    let p = call.params;
    let question = ProxmoxQuestion::Machines;
    Ok(Doc(BrowseProxmoxResponse {
        status: 200,
        message: "OK".into(),
        v_ms: proxmox(&app, &who, &p.TargetID, p.Credentials.0.ssh, question).await?,
        ..Default::default()
    }))
}

async fn nodes<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<Nodes>,
) -> ApiResult<Doc<BrowseProxmoxNodesResponse>> {
    let p = call.params;
    Ok(Doc(BrowseProxmoxNodesResponse {
        status: 200,
        message: "OK".into(),
        nodes: proxmox(&app, &who, &p.TargetID, p.Credentials.0, ProxmoxQuestion::Nodes).await?,
        ..Default::default()
    }))
}

async fn storage<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<Storage>,
) -> ApiResult<Doc<BrowseProxmoxStorageResponse>> {
    let p = call.params;
    let question = ProxmoxQuestion::Storage {
        node: p.Node.unwrap_or_default(),
    };
    Ok(Doc(BrowseProxmoxStorageResponse {
        status: 200,
        message: "OK".into(),
        storage: proxmox(&app, &who, &p.TargetID, p.Credentials.0, question).await?,
        ..Default::default()
    }))
}

/// A machine of Proxmox in the words of all hosts of machines.
fn machine(told: PVEVM) -> VMInfo {
    const MIB: i64 = 1 << 20;
    let ram: i64 = told.memory.parse().unwrap_or(0);
    let has_efi = told.disks.iter().any(|d| d.device == "efidisk");
    let disks = told.disks.into_iter().map(|d| VMDiskInfo {
        path: format!("{}:{}", d.storage_id, d.volume),
        size: d.size,
        device_num: d.device_num,
        ..Default::default()
    });
    VMInfo {
        name: told.name,
        cpu_cores: told.cpu.parse().unwrap_or(0),
        ram_bytes: ram.saturating_mul(MIB),
        firmware_type: if has_efi { "efi" } else { "bios" }.into(),
        disks: disks.collect(),
        id: told.vmid,
        ..Default::default()
    }
}

async fn in_snapshot<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<InSnapshot>,
) -> ApiResult<Doc<DispatcherListSnapshotVirtualMachinesResponse>> {
    let p = call.params;
    let request = Request::SnapshotNotes {
        of: Noted::Machines,
        destination: p.DestinationID,
        snapshot: p.SnapshotID,
    };
    let told: Vec<PVEVM> = read(ask(&app, &who, &p.TargetID, request).await?)?;
    Ok(Doc(DispatcherListSnapshotVirtualMachinesResponse {
        status: 200,
        message: "OK".into(),
        v_ms: told.into_iter().map(machine).collect(),
        ..Default::default()
    }))
}

async fn disks_in_snapshot<C: Asker>(
    app: Arc<App>,
    who: C,
    call: Call<Image>,
) -> ApiResult<Doc<DispatcherWindiskSnapshotResponse>> {
    let p = call.params;
    let request = Request::SnapshotNotes {
        of: Noted::Disks,
        destination: p.Destination,
        snapshot: p.SnapshotID,
    };
    Ok(Doc(DispatcherWindiskSnapshotResponse {
        status: 200,
        message: "OK".into(),
        windisk_snapshot: read(ask(&app, &who, &p.TargetID, request).await?)?,
        ..Default::default()
    }))
}

/// The endpoints.
#[must_use]
pub(super) fn routes() -> Vec<Route> {
    let machines_text =
        "Lists the machines and containers of a Proxmox cluster that a device reaches by SSH.";
    let nodes_text = "Lists the nodes of a Proxmox cluster that a device reaches by SSH.";
    let storage_text = "Lists the storages of a Proxmox cluster that a device reaches by SSH.";
    let disks_text = "Lists the disks whose images a snapshot holds, through a device.";
    let snapshot_text = "Lists the virtual machines in a snapshot, through a device.";
    let all = vec![
        Route::new(
            "AdminDispatcherRequestBrowseProxmox",
            "/api/v1/admin/dispatcher/request-browse-proxmox",
            machines_text,
            machines::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherRequestBrowseProxmox",
            "/api/v1/user/web/dispatcher/request-browse-proxmox",
            machines_text,
            machines::<User>,
        ),
        Route::new(
            "AdminDispatcherRequestBrowseProxmoxNodes",
            "/api/v1/admin/dispatcher/request-browse-proxmox/nodes",
            nodes_text,
            nodes::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherRequestBrowseProxmoxNodes",
            "/api/v1/user/web/dispatcher/request-browse-proxmox/nodes",
            nodes_text,
            nodes::<User>,
        ),
        Route::new(
            "AdminDispatcherRequestBrowseProxmoxStorage",
            "/api/v1/admin/dispatcher/request-browse-proxmox/storage",
            storage_text,
            storage::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherRequestBrowseProxmoxStorage",
            "/api/v1/user/web/dispatcher/request-browse-proxmox/storage",
            storage_text,
            storage::<User>,
        ),
        Route::new(
            "AdminDispatcherBrowseVirtualMachines",
            "/api/v1/admin/dispatcher/browse-virtual-machines",
            snapshot_text,
            in_snapshot::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherBrowseVirtualMachines",
            "/api/v1/user/web/dispatcher/browse-virtual-machines",
            snapshot_text,
            in_snapshot::<User>,
        ),
        Route::new(
            "AdminDispatcherRequestWindiskSnapshot",
            "/api/v1/admin/dispatcher/request-windisk-snapshot",
            disks_text,
            disks_in_snapshot::<Admin>,
        ),
        Route::new(
            "UserWebDispatcherRequestWindiskSnapshot",
            "/api/v1/user/web/dispatcher/request-windisk-snapshot",
            disks_text,
            disks_in_snapshot::<User>,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
