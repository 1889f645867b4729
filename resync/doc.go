// Package resync keeps checksum tables and compares disks with them. A checksum
// table has the block checksum of every block of one disk as the replica has it,
// so that what is the same need not be sent: by a walk (initial replication,
// resynchronization) or by an epoch whose change log says more than the truth.
//
// # The file
//
// A table is a sparse file in the sidecar's state directory. Two header slots,
// of a page each, are written in turn and read by the higher sequence number
// that has a right checksum; from byte 8192 on, 16 bytes for each block. A hole
// is a block of zeros, so that a disk costs what it holds, a 256th of it.
//
// # The table is a cache
//
// It says what it is true for: the point of an epoch, and the walk that was
// laid over it, up to a position. It changes only after what it changes to is
// durable in the container, between Begin and Commit:
//
//	Begin    header "dirty, on the way to T"; fdatasync
//	Set …    entries, in any order, whenever the kernel writes them
//	Commit   fdatasync; header "clean, true for T"; fdatasync
//
// A crash before the first header is durable leaves the clean old table, since
// no entry was touched; one after the second leaves the clean new one; in
// between the table is dirty and says for what. A torn header leaves the slot of
// the one before. Laying the same segments over a dirty table again gives the
// new table, whichever entries had reached it; only the disk checksum cannot be
// known any more, and is counted anew from all entries. Anything else that is
// wrong with a table is answered by making it anew from the indexes in the
// container: Rebuild.
package resync
