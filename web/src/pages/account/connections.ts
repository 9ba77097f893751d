// Which live connection stands for which device.
import type { LiveConnection } from '../../api/types';

export type Connections = Record<string, LiveConnection>;

/** All connections of a device; a device that was cloned may have two. */
export const connectionsOf = (connections: Connections, username: string, device: string) =>
  Object.entries(connections)
    .filter(([, c]) => c.Username === username && c.DeviceID === device)
    .map(([id]) => id);

/** Any device of the account that is on line: each of them can look into the account's vaults. */
export const anyConnection = (connections: Connections, username: string) =>
  Object.entries(connections).find(([, c]) => c.Username === username)?.[0];
