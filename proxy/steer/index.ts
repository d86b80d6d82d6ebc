// The door of the steering DNS: where it is opened. What it says is answer.ts.
export { openStub } from './stub.ts';
