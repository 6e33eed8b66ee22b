/**
 * What starting a process needs beyond this agent's own use of the session: loaded at the first start.
 *
 * @module
 */
export { childCommand, childMain } from "../platform/runtime/command_line.ts";
export { spawn } from "../platform/posix/spawn.ts";
export { prepareLaunch } from "./launch.ts";
