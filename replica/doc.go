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
//  1. its walk segments are laid over it, in the order of the manifest;
//  2. everything from the floor on becomes zero, from the first block boundary
//     at or after it;
//  3. its delta segments are laid over it, in the order of the manifest;
//
// and at the last one, the disk ends at its size. The floor comes between the
// two because a walk may have read a block before the disk was truncated, and a
// disk that grows again has zeros there that no change log tells of. A disk that
// a manifest of the chain does not have begins anew after it.
package replica
