// Package replica is what lies in the container, as values and as operations on
// a blobstore.Store: VMs, recovery points (manifests), the block map of a point.
// What to do when is decided elsewhere.
//
//	lifeboat.json                                  what the container is
//	vms/<vm>/vm-<generation>.json                  a VM and its disks
//	vms/<vm>/points/<epoch>.json                   manifest of a recovery point
//	vms/<vm>/disks/<disk>/<epoch>-<part>.seg       segments
//	vms/<vm>/events/<time>-<id>.json               what happened
//
// Numbers in names are hexadecimal of fixed width (16 digits, a part 8), so that
// the order of names is their order. Nothing is ever overwritten.
//
// A recovery point exists if and only if its manifest exists; the manifest is
// put last, after everything that it names is durable. Each manifest names its
// predecessor by epoch and SHA-256, so a chain of them can neither have a gap
// nor a link that was replaced.
//
// # The content of a disk at a point
//
// The disk begins as an endless row of zeros. Then, for each manifest of the
// chain that has the disk, oldest first:
//
//  1. everything from the floor on becomes zero, from the first block boundary
//     at or after it;
//  2. the segments are laid over it, in the order of the manifest: those of a
//     walk first, then the deltas, which override them;
//  3. everything from the size on becomes zero, which is where the disk ends.
//
// A disk that a manifest of the chain does not have begins anew after it.
//
// The floor is what makes it exact that a disk was cut and grew again: the zeros
// that this left are in no change log, but the tracker promises that from the
// floor on every block is marked or zero. When a walk was required, that promise
// is void, and is not needed: the walk compared all of the disk, and what was cut
// off since it began was marked. So the floor of a point that closes a walk is
// the disk's size. A walk therefore goes on to the end of what the replica has,
// not only to the end of the disk.
package replica
