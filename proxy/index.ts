// The door of proxy/: what others may use of it. Does nothing itself.
export { adminClient, type AdminClient, type AdminReply } from './admin-client.ts';
export { compileForRun, type CompiledPolicy } from './compile-for-run.ts';
export type { PrincipalBinding, ProxySettings } from './config.ts';
export { configPage } from './config-page.ts';
export { configCommand, proxyCommand } from './main.ts';
export { metricsPage } from './observe/index.ts';
export type { PolicyStore, ReloadResult } from './policy-store.ts';
export { startProxy, type RunningProxy, type StartOptions } from './start.ts';
export type { TunnelInfo, TunnelTable } from './tunnel-table.ts';
