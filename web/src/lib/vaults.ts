// Storage Vaults: where they are, and new ones (reference, section 14).
import type { Vault } from '../api/types';
import { t } from '../i18n';
import { keepAll } from './schedule';

export const S3 = 1000;
export const LOCAL = 1002;
export const BUCKET = 1003;
export const WEBDAV = 1010;

export function vaultKind(type: number): string {
  switch (type) {
    case S3:
      return t('S3-compatible');
    case 1001:
      return 'SFTP';
    case LOCAL:
      return t('Local path');
    case BUCKET:
      return t('Storage Role bucket');
    case 1004:
      return 'FTP';
    case 1005:
      return 'Azure Blob';
    case 1006:
      return t('Spanned');
    case 1007:
      return 'Swift';
    case 1008:
      return 'Backblaze B2';
    case 1009:
      return 'Storj';
    case WEBDAV:
      return 'WebDAV';
    case 1011:
      return 'SMB';
    default:
      return String(type);
  }
}

export const VAULT_TYPES = [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011];

/** Where a vault's data lies, in short. */
export function vaultPlace(v: Vault): string {
  if (v.RebrandStorage) return '';
  switch (v.DestinationType) {
    case S3:
      return [v.S3Server, v.S3BucketName, v.S3Subdir].filter(Boolean).join('/');
    case LOCAL:
      return v.LocalcopyPath;
    case BUCKET:
      return v.CometServer;
    case WEBDAV:
      return [v.WebDav?.DavServer, v.WebDav?.Path].filter(Boolean).join('/');
    case 1001:
      return [v.SFTPServer, v.SFTPRemotePath].filter(Boolean).join('/');
    case 1004:
      return [v.FTPServer, v.FTPCustomBaseDirectory].filter(Boolean).join('/');
    case 1005:
      return [v.AZBContainer, v.AZBPrefix].filter(Boolean).join('/');
    case 1007:
      return [v.Swift?.Container, v.Swift?.Prefix].filter(Boolean).join('/');
    case 1008:
      return [v.B2?.Bucket, v.B2?.Prefix].filter(Boolean).join('/');
    case 1011:
      return [v.SMB?.SMBServer, v.SMB?.SMBShare, v.SMB?.SMBDirectory].filter(Boolean).join('/');
    default:
      return '';
  }
}

const now = () => Math.floor(Date.now() / 1000);

export const newVault = (type: number): Vault =>
  ({
    Description: '',
    DestinationType: type,
    CreateTime: now(),
    ModifyTime: now(),
    DefaultRetention: keepAll(),
    AssociatedDevices: [],
    PreExec: [],
    ThawExec: [],
    PostExec: [],
    StorageLimitEnabled: false,
    StorageLimitBytes: 0,
    S3UsesTLS: true,
    SFTPCustomAuth_UseKnownHostsFile: true,
    ...(type === WEBDAV ? { WebDav: {} } : {}),
    ...(type === 1007 ? { Swift: {} } : {}),
    ...(type === 1008 ? { B2: {} } : {}),
    ...(type === 1011 ? { SMB: {} } : {}),
    // What else a vault may have is zero, and the server reads what is missing so.
  }) as unknown as Vault;
