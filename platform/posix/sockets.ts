/**
 * Sockets of the unix family: doorbells and lifelines.
 *
 * @module
 */
import { check, errno, SystemError } from "../../ffi/mod.ts";
import { constants, errnos, libc, osName, structs } from "./system.ts";

const encoder = new TextEncoder();

/**
 * The bytes of a `struct sockaddr_un`, exactly as long as the name needs.
 *
 * @param name a path; or, with `abstract`, a name in Linux's abstract namespace, without its leading NUL
 * @param abstract whether the name is no file
 * @throws {RangeError} the name is empty or too long
 */
export function unixAddress(name: string, abstract: boolean): Uint8Array<ArrayBuffer> {
  const bytes = encoder.encode(name);
  const layout = structs["struct sockaddr_un"];
  const start = layout.sun_path;
  // A path needs its NUL at the end, an abstract name the one at its beginning.
  const room = layout.size - start - 1;
  if (bytes.length === 0 || bytes.length > room) {
    throw new RangeError(
      `Cannot make a socket address of ${
        JSON.stringify(name)
      }: it has ${bytes.length} bytes, and 1 to ${room} fit; use a shorter folder`,
    );
  }
  if (!abstract && bytes.includes(0)) {
    throw new TypeError(
      `Cannot make a socket address of ${JSON.stringify(name)}: a path has no NUL; remove it`,
    );
  }
  const address = new Uint8Array(start + bytes.length + 1);
  if (osName === "darwin") {
    address[0] = address.length;
    address[1] = constants.AF_UNIX;
  } else {
    address[0] = constants.AF_UNIX;
  }
  address.set(bytes, abstract ? start + 1 : start);
  return address;
}

/**
 * Gives a socket its address.
 *
 * @param fd a socket
 * @param address from {@linkcode unixAddress}
 * @throws {SystemError} EADDRINUSE and the like
 */
export function bindUnix(fd: number, address: Uint8Array): void {
  check("bind", libc.bind(fd, address, address.byteLength), describe(address));
}

/**
 * Lets a bound stream socket accept connections.
 *
 * @param fd a socket
 * @param backlog how many may wait
 * @throws {SystemError} EINVAL: it has no address
 */
export function listenUnix(fd: number, backlog: number): void {
  check("listen", libc.listen(fd, backlog), `on descriptor ${fd}`);
}

/**
 * Takes one waiting connection.
 *
 * @param fd a listening socket
 * @returns the connection's descriptor, without the flags of `fd`; -1 when none waits
 * @throws {SystemError} EMFILE and the like
 */
export function acceptUnix(fd: number): number {
  for (;;) {
    const connection = libc.accept(fd, null, null);
    if (connection >= 0) return connection;
    const code = errno();
    if (code === errnos.EAGAIN) return -1;
    if (code !== errnos.EINTR && code !== errnos.ECONNABORTED) {
      throw new SystemError("accept", code, `on descriptor ${fd}`);
    }
  }
}

/**
 * Connects a socket. Never throws.
 *
 * @param fd a socket
 * @param address from {@linkcode unixAddress}
 * @returns 0, or minus the error number: ECONNREFUSED when nobody listens, EAGAIN when too many wait already
 */
export function connectUnix(fd: number, address: Uint8Array): number {
  while (libc.connect(fd, address, address.byteLength) < 0) {
    const code = errno();
    if (code === errnos.EINPROGRESS || code === errnos.EISCONN) return 0;
    if (code !== errnos.EINTR) return -code;
  }
  return 0;
}

/**
 * Sends one datagram without waiting and without SIGPIPE. Never throws.
 *
 * @param fd a datagram socket
 * @param view the datagram
 * @param address from {@linkcode unixAddress}
 * @returns how many bytes went, or minus the error number: EAGAIN when the receiver is full, ECONNREFUSED or ENOENT
 *   when it is gone
 */
export function sendTo(fd: number, view: ArrayBufferView, address: Uint8Array): number {
  const flags = constants.MSG_DONTWAIT | constants.MSG_NOSIGNAL;
  const count = libc.sendto(fd, view, view.byteLength, flags, address, address.byteLength);
  return count < 0 ? -errno() : count;
}

/**
 * Sends through a connected socket without waiting and without SIGPIPE. Never throws.
 *
 * @param fd a connected socket
 * @param view what to send
 * @returns how many bytes went, or minus the error number: EAGAIN when full, EPIPE or ECONNRESET when the peer is gone
 */
export function sendFd(fd: number, view: ArrayBufferView): number {
  const count = libc.send(fd, view, view.byteLength, constants.MSG_DONTWAIT | constants.MSG_NOSIGNAL);
  return count < 0 ? -errno() : count;
}

/**
 * Receives without waiting. Never throws.
 *
 * @param fd a socket
 * @param view where the bytes go
 * @returns how many bytes came, 0 at a stream's end, or minus the error number: EAGAIN when there are none now
 */
export function receiveFd(fd: number, view: ArrayBufferView): number {
  const count = libc.recv(fd, view, view.byteLength, constants.MSG_DONTWAIT);
  return count < 0 ? -errno() : count;
}

function describe(address: Uint8Array): string {
  const start = structs["struct sockaddr_un"].sun_path;
  return JSON.stringify(new TextDecoder().decode(address.subarray(start)).replace(/(?<=.)\0$/, ""));
}
