// Names for the structures this console uses, from the server's own OpenAPI document.
import type { components } from './schema';

type S = components['schemas'];
export type Profile = S['UserProfileConfig'];
export type Job = S['BackupJobDetail'];
export type JobEntry = S['JobEntry'];
export type LiveConnection = S['LiveUserConnection'];
export type Snapshot = S['VaultSnapshot'];
export type StoredObject = S['StoredObject'];
export type Bucket = S['BucketProperties'];
export type Branding = S['ServerMetaBrandingProperties'];
export type SessionStarted = S['SessionKeyRegeneratedResponse'];
export type ProfileAndHash = S['GetProfileAndHashResponseMessage'];
export type Version = S['ServerMetaVersionInfo'];
export type RestoreOptions = Partial<S['RestoreJobAdvancedOptions']>;
