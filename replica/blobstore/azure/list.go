package azure

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"lifeboat/replica/blobstore"
)

// errOrder: accounts with a hierarchical namespace sort the slash before
// everything else, and what relies on the order of names must not run on them.
var errOrder = errors.New("the service does not list blobs in the order of their names; " +
	"use a storage account without a hierarchical namespace")

// List implements blobstore.Store.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[blobstore.Info, error] {
	return func(yield func(blobstore.Info, error) bool) {
		if err := s.refuse("list", prefix, blobstore.ValidPrefix(prefix)); err != nil {
			yield(blobstore.Info{}, err)
			return
		}
		pager := s.container.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
			Prefix: to.Ptr(s.prefix + prefix), MaxResults: s.pageSize(),
		})
		last := ""
		for page, err := range pages(ctx, pager) {
			if err != nil {
				yield(blobstore.Info{}, s.fail(ctx, "list", prefix, err))
				return
			}
			if page.Segment == nil {
				continue
			}
			for _, item := range page.Segment.BlobItems {
				info, ok := s.info(item)
				if !ok || info.Name == last {
					continue
				}
				if info.Name < last {
					yield(blobstore.Info{}, s.refuse("list", prefix, errOrder))
					return
				}
				last = info.Name
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// Prefixes implements blobstore.Store.
func (s *Store) Prefixes(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.refuse("list", prefix, blobstore.ValidDirectory(prefix)); err != nil {
			yield("", err)
			return
		}
		below := s.prefix + prefix
		pager := s.container.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{
			Prefix: &below, MaxResults: s.pageSize(),
		})
		last := ""
		for page, err := range pages(ctx, pager) {
			if err != nil {
				yield("", s.fail(ctx, "list", prefix, err))
				return
			}
			if page.Segment == nil {
				continue
			}
			for _, item := range page.Segment.BlobPrefixes {
				if item == nil || item.Name == nil {
					continue
				}
				element := strings.TrimSuffix(strings.TrimPrefix(*item.Name, below), "/")
				if element == last || blobstore.ValidName(element) != nil {
					continue
				}
				last = element
				if !yield(element, nil) {
					return
				}
			}
		}
	}
}

// info returns what the service tells of a blob; false for what is no blob of
// ours.
func (s *Store) info(item *container.BlobItem) (blobstore.Info, bool) {
	if item == nil || item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil {
		return blobstore.Info{}, false
	}
	name, found := strings.CutPrefix(*item.Name, s.prefix)
	if !found || blobstore.ValidName(name) != nil {
		return blobstore.Info{}, false
	}
	p := item.Properties
	return blobstore.Info{Name: name, Size: *p.ContentLength, Modified: modified(p.CreationTime, p.LastModified)}, true
}

func (s *Store) pageSize() *int32 {
	if s.options.PageSize == 0 {
		return nil
	}
	return &s.options.PageSize
}

// pages yields the pages of a listing; a failure is the last element.
func pages[P any](ctx context.Context, pager *runtime.Pager[P]) iter.Seq2[P, error] {
	return func(yield func(P, error) bool) {
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}
