// The door of the kernel fence: addresses, ports and interfaces go in, one nftables table comes out. Knows no names and no policy.
export { applyFence, removeFence } from './apply.ts';
export { counterOf, dropClasses, packetClasses, type DropClass } from './classes.ts';
export { createNft, type NftOptions } from './client.ts';
export { fenceCommand, fenceIo } from './cli.ts';
export { digestFence } from './digest.ts';
export { listenForDrops, type DropListener } from './drop-log.ts';
export { readDrops, type Drops } from './drops.ts';
export { FenceError, type FenceErrorCode } from './errors.ts';
export { createFakeNft, type FakeNft } from './fake.ts';
export { planFence } from './fence.ts';
export type { DropLog } from './log-plan.ts';
export { createNflogReader, type DroppedPacket } from './nflog.ts';
export type { NftObject } from './objects.ts';
export type { FenceSpec, Sandbox } from './spec.ts';
export type { Nft, Transaction, WatchedNft } from './transaction.ts';
export { verifyFence } from './verify.ts';
export { watchFence, type FenceWatch } from './watch.ts';
export type { FenceReport, WatchEvent } from './watch-look.ts';
