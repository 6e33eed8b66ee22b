/**
 * Descriptors that are closed on exec from their first moment on, and eventfd.
 *
 * @module
 */
import { check } from "../../ffi/mod.ts";
import { libc } from "../posix/system.ts";
import type { DescriptorMechanism } from "../types.ts";
import { constants } from "./constants.ts";
import { linuxLibc } from "./symbols.ts";

function socketType(type: "stream" | "datagram", nonblocking: boolean): number {
  return (type === "stream" ? constants.SOCK_STREAM : constants.SOCK_DGRAM) | constants.SOCK_CLOEXEC |
    (nonblocking ? constants.SOCK_NONBLOCK : 0);
}

/** pipe2, and socket's own flags. */
export const linuxDescriptors: DescriptorMechanism = {
  pipe(nonblocking: boolean): [number, number] {
    const ends = new Int32Array(2);
    check("pipe2", linuxLibc.pipe2(ends, constants.O_CLOEXEC | (nonblocking ? constants.O_NONBLOCK : 0)));
    return [ends[0], ends[1]];
  },
  socket(type: "stream" | "datagram", nonblocking: boolean): number {
    return check("socket", libc.socket(constants.AF_UNIX, socketType(type, nonblocking), 0));
  },
  socketPair(type: "stream" | "datagram", nonblocking: boolean): [number, number] {
    const ends = new Int32Array(2);
    check("socketpair", libc.socketpair(constants.AF_UNIX, socketType(type, nonblocking), 0, ends));
    return [ends[0], ends[1]];
  },
};
