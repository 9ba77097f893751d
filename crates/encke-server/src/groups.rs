//! User groups: a name that accounts are filed under (reference, section 9). An account is in at most one.

use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::policies::{MAX_DESCRIPTION, check_id, list_scope, place_in_organization};
use crate::table::{Call, Doc, Envelope, MapOf, Route, done};
use encke_api::constants::{SEVT_USERGROUP_NEW, SEVT_USERGROUP_REMOVED, SEVT_USERGROUP_UPDATED};
use encke_api::endpoint::Role;
use encke_api::form::Json;
use encke_api::types::{CreateUserGroupResponse, GetUserGroupWithUsersResponse, UserGroup};
use encke_api::{ApiError, ApiResult, params};
use encke_store::collections::{Item, item, put_item, remove_item};
use encke_store::{EventDraft, StoreError, UsersOf};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most members that one call answers with their profiles.
const MAX_MEMBERS: usize = 10_000;

params! {
    /// A list.
    struct ListOfOrganization {
        /// Only those of this organization; for administrators of the top level.
        TargetOrganization: Option<String>
    }
}

params! {
    /// A group.
    struct Target {
        /// Id of the group.
        GroupID: String
    }
}

params! {
    /// Parameters of `AdminUserGroupsGet`.
    struct Get {
        /// Id of the group.
        GroupID: String,
        /// Whether to answer its members' profiles too.
        IncludeUsers: Option<bool>
    }
}

params! {
    /// Parameters of `AdminUserGroupsNew`.
    struct New {
        /// Name of the group.
        Name: String,
        /// Organization of the group; only for administrators of the top level.
        TargetOrganization: Option<String>
    }
}

params! {
    /// Parameters of `AdminUserGroupsSet`.
    struct Set {
        /// Id of the group. One that does not exist yet is made.
        GroupID: String,
        /// The whole group.
        Group: Json<UserGroup>
    }
}

params! {
    /// Parameters of `AdminUserGroupsSetUsersForGroup`.
    struct SetUsers {
        /// Id of the group.
        GroupID: String,
        /// Names of all its members; who is missing leaves the group.
        Users: Json<Vec<String>>
    }
}

fn group_error(e: StoreError) -> ApiError {
    match e {
        StoreError::NotFound => ApiError::not_found("There is no such user group"),
        StoreError::Exists => ApiError::forbidden("This id can not be used"),
        e => store_error(e),
    }
}

fn event(kind: i64, actor: &str, id: &str, group: &UserGroup) -> EventDraft {
    EventDraft {
        actor: actor.to_string(),
        organization: group.organization_id.clone(),
        resource: id.to_string(),
        kind,
        data: match kind {
            SEVT_USERGROUP_REMOVED => Value::Null,
            _ => serde_json::to_value(group).unwrap_or_default(),
        },
    }
}

async fn find(app: &App, admin: &Admin, id: &str) -> ApiResult<Item<UserGroup>> {
    app.store.item(&admin.scope(), id).await.map_err(group_error)
}

async fn list(app: Arc<App>, admin: Admin, call: Call<ListOfOrganization>) -> ApiResult<MapOf<String>> {
    let scope = list_scope(&admin, call.params.TargetOrganization)?;
    let all: BTreeMap<String, UserGroup> = app.store.items(&scope).await.map_err(store_error)?;
    Ok(MapOf(all.into_iter().map(|(id, g)| (id, g.name)).collect()))
}

async fn list_full(
    app: Arc<App>,
    admin: Admin,
    call: Call<ListOfOrganization>,
) -> ApiResult<MapOf<UserGroup>> {
    let scope = list_scope(&admin, call.params.TargetOrganization)?;
    app.store.items(&scope).await.map(MapOf).map_err(store_error)
}

async fn get(app: Arc<App>, admin: Admin, call: Call<Get>) -> ApiResult<Doc<GetUserGroupWithUsersResponse>> {
    let p = call.params;
    let group = find(&app, &admin, &p.GroupID).await?.value;
    let mut users = BTreeMap::new();
    if p.IncludeUsers == Some(true) {
        let names = members(&app, &p.GroupID).await?;
        if names.len() > MAX_MEMBERS {
            return Err(ApiError::bad_request(format!(
                "The group has more than {MAX_MEMBERS} members; ask without IncludeUsers"
            )));
        }
        for name in names {
            if let Ok(stored) = app.store.profile(&admin.scope(), &name).await {
                users.insert(name, stored.parse().map_err(store_error)?);
            }
        }
    }
    Ok(Doc(GetUserGroupWithUsersResponse {
        user_group: group,
        users,
        ..Default::default()
    }))
}

async fn members(app: &App, id: &str) -> ApiResult<Vec<String>> {
    app.store
        .usernames_of(UsersOf::Group(id.to_string()))
        .await
        .map_err(store_error)
}

fn check(group: &UserGroup) -> ApiResult<()> {
    if group.name.trim().is_empty() || group.name.len() > MAX_DESCRIPTION {
        return Err(ApiError::bad_request("A group's name has 1 to 1024 bytes"));
    }
    Ok(())
}

async fn new(app: Arc<App>, admin: Admin, call: Call<New>) -> ApiResult<Doc<CreateUserGroupResponse>> {
    let id = uuid::Uuid::new_v4().to_string();
    let group = UserGroup {
        name: call.params.Name,
        organization_id: call.params.TargetOrganization.unwrap_or_default(),
        ..Default::default()
    };
    put(&app, &admin, id.clone(), group).await?;
    Ok(Doc(CreateUserGroupResponse {
        status: 200,
        message: "OK".into(),
        user_group_id: id,
        ..Default::default()
    }))
}

async fn put(app: &App, admin: &Admin, id: String, mut group: UserGroup) -> ApiResult<()> {
    check(&group)?;
    place_in_organization(app, admin, &mut group.organization_id)?;
    let (scope, actor) = (admin.scope(), admin.name.clone());
    let written = app.store.write(move |tx| {
        let old = match item::<UserGroup>(tx.sql(), &scope, &id) {
            Ok(old) => Some(old),
            Err(StoreError::NotFound) => None,
            Err(e) => return Err(e),
        };
        let kind = match &old {
            None => {
                group.created_at = now();
                SEVT_USERGROUP_NEW
            }
            Some(old) if old.value.organization_id != group.organization_id => {
                return Err(StoreError::Invalid(
                    "A group can not be moved to another organization".into(),
                ));
            }
            Some(old) => {
                group.created_at = old.value.created_at;
                SEVT_USERGROUP_UPDATED
            }
        };
        put_item(tx, &id, &group, old.as_ref().map(|o| o.hash.as_str()))?;
        tx.emit(event(kind, &actor, &id, &group));
        Ok(())
    });
    written.await.map_err(group_error)
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let p = call.params;
    check_id(&p.GroupID)?;
    put(&app, &admin, p.GroupID, p.Group.0).await?;
    Ok(done())
}

async fn leave(app: &App, actor: &str, group: &str, users: &[String]) -> ApiResult<()> {
    for user in users {
        let changed = crate::users::change(app, actor, user, |profile| {
            if profile.group_id == group {
                profile.group_id.clear();
            }
            Ok(())
        });
        match changed.await {
            // Deleted meanwhile.
            Err(e) if e.status == 400 => {}
            other => other.map(drop)?,
        }
    }
    Ok(())
}

async fn delete(app: Arc<App>, admin: Admin, call: Call<Target>) -> ApiResult<Envelope> {
    let id = call.params.GroupID;
    find(&app, &admin, &id).await?;
    // Members leave first: a group that is gone may stand in no profile.
    leave(&app, &admin.name, &id, &members(&app, &id).await?).await?;
    let (scope, actor, group) = (admin.scope(), admin.name.clone(), id.clone());
    let removed = app.store.write(move |tx| {
        let old = remove_item::<UserGroup>(tx, &scope, &group)?;
        tx.emit(event(SEVT_USERGROUP_REMOVED, &actor, &group, &old.value));
        Ok(())
    });
    removed.await.map_err(group_error)?;
    // Those who joined in between.
    leave(&app, &admin.name, &id, &members(&app, &id).await?).await?;
    Ok(done())
}

async fn set_users(app: Arc<App>, admin: Admin, call: Call<SetUsers>) -> ApiResult<Envelope> {
    let p = call.params;
    let group = find(&app, &admin, &p.GroupID).await?.value;
    let wanted: BTreeSet<String> = p.Users.0.into_iter().collect();
    // All are looked at before the first is changed.
    for user in &wanted {
        let stored = crate::users::profile_of(&app, &admin.scope(), user).await?;
        if stored.organization != group.organization_id {
            return Err(ApiError::bad_request(format!(
                "The account '{user}' belongs to another organization than the group"
            )));
        }
    }
    let present: BTreeSet<String> = members(&app, &p.GroupID).await?.into_iter().collect();
    let gone: Vec<String> = present.difference(&wanted).cloned().collect();
    leave(&app, &admin.name, &p.GroupID, &gone).await?;
    for user in wanted.difference(&present) {
        crate::users::change(&app, &admin.name, user, |profile| {
            profile.group_id.clone_from(&p.GroupID);
            Ok(())
        })
        .await?;
    }
    Ok(done())
}

/// Endpoints of user groups.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "AdminUserGroupsList",
            "/api/v1/admin/user-groups/list",
            "Answers the names of all user groups by id.",
            list,
        ),
        Route::new(
            "AdminUserGroupsListFull",
            "/api/v1/admin/user-groups/list-full",
            "Answers all user groups by id.",
            list_full,
        ),
        Route::new(
            "AdminUserGroupsGet",
            "/api/v1/admin/user-groups/get",
            "Answers a user group, on request with its members' profiles.",
            get,
        ),
        Route::new(
            "AdminUserGroupsNew",
            "/api/v1/admin/user-groups/new",
            "Adds a user group and answers its id.",
            new,
        ),
        Route::new(
            "AdminUserGroupsSet",
            "/api/v1/admin/user-groups/set",
            "Saves a user group, or adds one under a chosen id.",
            set,
        ),
        Route::new(
            "AdminUserGroupsDelete",
            "/api/v1/admin/user-groups/delete",
            "Deletes a user group; its members stay, in no group.",
            delete,
        ),
        Route::new(
            "AdminUserGroupsSetUsersForGroup",
            "/api/v1/admin/user-groups/set-users-for-group",
            "Says who is in a user group; who is not named leaves it.",
            set_users,
        ),
    ];
    all.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
