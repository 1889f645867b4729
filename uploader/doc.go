// Package uploader is the sidecar: it keeps the replicas of protected VMs up to
// date. For each VM it walks the disks once (initial replication), then rolls
// over at the copy frequency and ships what changed as recovery points.
//
// # Who knows what
//
// The filter is the authority on which VMs are protected and on what changed;
// the container on what was shipped. The sidecar's own state directory has only
// caches (checksum tables), settings, and the list of jobs; losing it costs time
// and the settings, nothing else. So the sidecar can be killed at any moment:
// what to do next follows from what the filter and the container say, by decide,
// which is a pure function.
//
//	state/lock                       one sidecar at a time
//	state/jobs.json                  the last jobs
//	state/vms/<vm>/settings.json     copy frequency, what was acknowledged
//	state/vms/<vm>/<disk>.table      checksum table
//
// # The order of things
//
// A recovery point is made in this order, and each step may be repeated:
//
//  1. segments are put, under names that are never used again;
//  2. the manifest is put, which makes the point exist;
//  3. the checksum tables follow;
//  4. the epoch is acknowledged, and the filter forgets it.
//
// A table never has the checksum of a block before the segment that carries the
// block is one that a manifest names, or one of the walk under way: whoever
// skips a block because the table has its checksum relies on it.
//
// A walk's segments say which blocks they cover and for which walk, so a walk
// goes on where it was from what the container holds. Between its start and its
// closing rollover there is no other rollover; so whatever the guest changes
// meanwhile is in the one epoch that closes it, and it does not matter when in
// that time a block was read, nor whether it was read twice.
//
// # What runs
//
// For each VM a shipper, which does the work and decides nothing about time, is
// driven by a worker, which knows schedule, retry and health. Segments are built
// by one goroutine for each VM and put by up to Parallel for all of them, in
// buffers of which there are one more: that bounds the memory.
package uploader
