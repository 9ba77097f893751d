// The fields of a Storage Vault's place, for each kind of storage (reference, section 14).
import type { Field } from '../../components/Fields';
import { t } from '../../i18n';
import { BUCKET, LOCAL, S3, WEBDAV } from '../../lib/vaults';

export const SFTP = 1001;
export const FTP = 1004;
export const AZURE = 1005;
export const SWIFT = 1007;
export const B2 = 1008;
export const SMB = 1011;

export function placeFields(type: number): Field[] {
  switch (type) {
    case S3:
      return [
        { path: 'S3Server', label: t('Server'), help: t('Such as s3.example.org'), required: true },
        { path: 'S3BucketName', label: t('Bucket'), required: true },
        { path: 'S3AccessKey', label: t('Access key'), required: true },
        { path: 'S3SecretKey', label: t('Secret key'), kind: 'secret', required: true },
        { path: 'S3Subdir', label: t('Folder inside the bucket') },
        { path: 'S3CustomRegion', label: t('Region'), help: t('Where the service asks for one') },
        { path: 'S3UsesTLS', label: t('Encrypted connection (TLS)'), kind: 'switch' },
        {
          path: 'S3RemoveDeleted',
          label: t('Delete for good where the bucket keeps versions'),
          kind: 'switch',
        },
        {
          path: 'S3ObjectLockDays',
          label: t('Object lock: days'),
          help: t(
            'Nobody can delete what is written before that; 0 for none. The bucket must have been made with it.',
          ),
          kind: 'number',
          min: 0,
          max: 36500,
        },
      ];
    case LOCAL:
      return [
        {
          path: 'LocalcopyPath',
          label: t('Folder on the device'),
          help: t('A mounted disk or share; every device of the account looks in the same path'),
          required: true,
          wide: true,
        },
      ];
    case WEBDAV:
      return [
        {
          path: 'WebDav.DavServer',
          label: t('Server'),
          help: t('Such as https://dav.example.org'),
          required: true,
        },
        { path: 'WebDav.Path', label: t('Folder') },
        { path: 'WebDav.UserName', label: t('User name') },
        { path: 'WebDav.AccessKey', label: t('Password'), kind: 'secret' },
      ];
    case BUCKET:
      return [
        { path: 'CometServer', label: t('Server'), help: t('Address of the Storage Role'), required: true },
        { path: 'CometBucket', label: t('Bucket'), required: true },
        { path: 'CometBucketKey', label: t('Key of the bucket'), kind: 'secret', required: true },
      ];
    case SFTP:
      return [
        { path: 'SFTPServer', label: t('Server'), help: t('With :port where it is not 22'), required: true },
        { path: 'SFTPRemotePath', label: t('Folder') },
        { path: 'SFTPUsername', label: t('User name') },
        {
          path: 'SFTPAuthMode',
          label: t('Log in with'),
          kind: 'select',
          numeric: true,
          options: [
            { value: '0', label: t('The keys of the device') },
            { value: '1', label: t('Password') },
            { value: '2', label: t('Private key') },
          ],
        },
        { path: 'SFTPPassword', label: t('Password'), kind: 'secret' },
        { path: 'SFTPPrivateKey', label: t('Private key'), kind: 'area', wide: true },
        {
          path: 'SFTPCustomAuth_UseKnownHostsFile',
          label: t('Only a server that the known hosts file of the device knows'),
          kind: 'switch',
          wide: true,
        },
      ];
    case FTP:
      return [
        { path: 'FTPServer', label: t('Server'), required: true },
        {
          path: 'FTPPort',
          label: t('Port'),
          help: t('0 for the usual one'),
          kind: 'number',
          min: 0,
          max: 65535,
        },
        { path: 'FTPUsername', label: t('User name'), required: true },
        { path: 'FTPPassword', label: t('Password'), kind: 'secret' },
        { path: 'FTPCustomBaseDirectory', label: t('Folder') },
        {
          path: 'FTPSMode',
          label: t('Encrypted connection (TLS)'),
          kind: 'select',
          numeric: true,
          options: [
            { value: '0', label: t('None') },
            { value: '1', label: t('From the first byte on') },
            { value: '2', label: t('After a request (AUTH TLS)') },
          ],
        },
        { path: 'FTPAcceptInvalidSSL', label: t('Accept any certificate'), kind: 'switch' },
      ];
    case AZURE:
      return [
        { path: 'AZBAccountName', label: t('Account'), required: true },
        { path: 'AZBAccountKey', label: t('Secret key'), kind: 'secret', required: true },
        { path: 'AZBContainer', label: t('Container'), required: true },
        { path: 'AZBPrefix', label: t('Folder') },
      ];
    case SWIFT:
      return [
        {
          path: 'Swift.AuthURL',
          label: t('Address of the log-in'),
          help: t('Such as https://host:5000/v3'),
          required: true,
          wide: true,
        },
        { path: 'Swift.Username', label: t('User name'), required: true },
        { path: 'Swift.APIKey', label: t('Password'), kind: 'secret', required: true },
        { path: 'Swift.Domain', label: t('Domain') },
        { path: 'Swift.Tenant', label: t('Project') },
        { path: 'Swift.Region', label: t('Region'), help: t('Where the service asks for one') },
        { path: 'Swift.Container', label: t('Container'), required: true },
        { path: 'Swift.Prefix', label: t('Folder') },
      ];
    case B2:
      return [
        { path: 'B2.AccountID', label: t('Id of the key'), required: true },
        { path: 'B2.Key', label: t('Secret key'), kind: 'secret', required: true },
        { path: 'B2.Bucket', label: t('Bucket'), required: true },
        { path: 'B2.Prefix', label: t('Folder inside the bucket') },
        { path: 'B2.HideDeletedFiles', label: t('Only hide deleted files'), kind: 'switch' },
      ];
    case SMB:
      return [
        { path: 'SMB.SMBServer', label: t('Server'), required: true },
        { path: 'SMB.SMBShare', label: t('Name of the share'), required: true },
        { path: 'SMB.SMBDirectory', label: t('Folder') },
        { path: 'SMB.SMBUsername', label: t('User name'), required: true },
        { path: 'SMB.SMBPassword', label: t('Password'), kind: 'secret' },
      ];
    default:
      return [];
  }
}

/** The kinds that one can choose, with a word on each. */
export const kinds = (): { type: number; title: string; text: string }[] => [
  { type: S3, title: t('S3-compatible'), text: t('Amazon, MinIO, Wasabi and others') },
  { type: LOCAL, title: t('Local path'), text: t('A disk or a mounted share') },
  { type: SMB, title: 'SMB', text: t('A share of Windows, Samba or a NAS') },
  { type: SFTP, title: 'SFTP', text: t('Any server with SSH') },
  { type: WEBDAV, title: 'WebDAV', text: t('Nextcloud and others') },
  { type: AZURE, title: 'Azure Blob', text: t('Storage of Microsoft Azure') },
  { type: B2, title: 'Backblaze B2', text: t('By its own interface') },
  { type: SWIFT, title: 'Swift', text: t('OpenStack and others') },
  { type: FTP, title: 'FTP', text: t('With or without TLS') },
  { type: BUCKET, title: t('Storage Role bucket'), text: t('On another server of this kind') },
];
