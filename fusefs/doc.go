// Package fusefs is the filter file system: it serves a folder through FUSE
// and lets a tracker see every change of a protected disk before it happens.
//
// # Shape
//
// The folder below is opened once, before anything is mounted over it, and is
// reached only through that descriptor. The kernel's requests are read by a
// loop of our own; READ and WRITE are answered there, without an allocation,
// and everything else goes through go-fuse's ProtocolServer to a
// RawFileSystem.
//
// # Invariants
//
//   - A node id is never used for a second inode. A node is keyed by the file
//     handle of its inode, generation included; where file handles cannot be
//     opened, an O_PATH descriptor is held instead, so that the inode number
//     stays taken.
//   - Handles of files and directories carry no state. I/O goes to a
//     descriptor of the node that is opened when it is needed, read-write and
//     without O_APPEND (the kernel sends explicit offsets). A directory cookie
//     is the position in the directory below.
//   - Every change of a file's data happens while the node's gate is held for
//     reading, and between BeginChange and EndChange of the node's Disk if it
//     has one; every change of size holds the gate alone. Attach takes the gate
//     for writing: when it returns, no change is in flight that its Disk has
//     not seen.
//   - A file that is open with kernel passthrough never has a Disk, since its
//     writes do not come here. What looks like a disk is therefore never opened
//     so (see recognise.go).
//   - What reaches a disk past the mount cannot be seen here, but who opens it
//     so can: Look returns when the Witness was told of everybody who had.
//   - The buffers that requests are read into are resident, so that this
//     process may die at any moment without failing a request that the kernel
//     is copying.
//   - Nothing here walks a path through the mount.
//   - Where a keeper gave an Estate, what the kernel is told of nodes is in the
//     shared state first, and a request that must not be executed twice is in
//     the journal from before it is executed until it is answered (replay.go).
package fusefs
