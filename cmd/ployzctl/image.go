package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime/oci"
	"github.com/ployz/ployz/node/sdk"
)

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "The machine's images", Args: cobra.NoArgs, RunE: needsCommand}
	cmd.AddCommand(a.imageLs(), a.imagePush(), a.imagePull(), a.imageRm(), a.imagePrune())
	return cmd
}

func (a *app) imageLs() *cobra.Command {
	var machine string
	cmd := &cobra.Command{
		Use: "ls", Short: "List the machine's images, or another's", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.ImagesOf(cmd.Context(), machine)
			if err != nil {
				return err
			}
			return a.answer(list, func() error { return a.showImages(list) })
		},
	}
	cmd.Flags().StringVar(&machine, "machine", "", "whose images, by the machine's name")
	return cmd
}

func (a *app) showImages(list []api.ImageEntry) error {
	var rows [][]string
	for _, e := range list {
		if a.quiet {
			fmt.Fprintln(a.out, strings.Join(append(e.References, e.Digest), " "))
			continue
		}
		used := "-"
		if e.InUse {
			used = "in use"
		}
		rows = append(rows, []string{orDash(strings.Join(e.References, " ")), e.Digest, size(e.Bytes), ago(e.Added), used})
	}
	if a.quiet {
		return nil
	}
	return a.table("REFERENCE DIGEST SIZE ADDED USE", rows)
}

func (a *app) imagePull() *cobra.Command {
	return &cobra.Command{
		Use:   "pull REFERENCE",
		Short: "Fetch an image from its registry, with this user's docker credentials",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			auth, err := credentialsFor(args[0])
			if err != nil {
				return a.refuse(api.KindImagePull, err)
			}
			return a.operate(cmd.Context(), request{kind: api.KindImagePull, body: api.ImagePullRequest{Reference: args[0], Auth: auth}})
		},
	}
}

func (a *app) imageRm() *cobra.Command {
	return &cobra.Command{
		Use: "rm REFERENCE", Short: "Forget an image; its bytes go at the next prune", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.operate(cmd.Context(), request{kind: api.KindImageRemove, body: api.ImageRemoveRequest{Reference: args[0]}})
		},
	}
}

func (a *app) imagePrune() *cobra.Command {
	var (
		older  time.Duration
		plan   string
		dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove images that nothing uses, and what no image needs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body := api.ImagePruneRequest{OlderThan: api.Duration(older)}
			if !dryRun {
				return a.operate(cmd.Context(), request{kind: api.KindImagePrune, body: body, plan: plan})
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			shown, err := c.Preview(cmd.Context(), api.KindImagePrune, body)
			if err != nil {
				return err
			}
			return a.showPlan(shown)
		},
	}
	cmd.Flags().DurationVar(&older, "older-than", 0, "keep images that were added within this time")
	cmd.Flags().BoolVarP(&dryRun, "preview", "n", false, "show what would go, and its plan's digest, and remove nothing")
	cmd.Flags().StringVar(&plan, "plan", "", "remove exactly what the plan with this `DIGEST` shows")
	return cmd
}

func (a *app) imagePush() *cobra.Command {
	return &cobra.Command{
		Use:   "push PATH [REFERENCE]",
		Short: "Send an image to the machine without a registry: only what it lacks travels",
		Long: `Send an image to the machine without a registry: an OCI layout (a folder, or a tar of one) or what
'docker save' writes; - is standard input. Of a folder only the blobs travel that the machine lacks.
Without REFERENCE the image keeps the name that it carries.`,
		Example: `  ployzctl image push build/web shop/web:v2
  docker save shop/web:v2 | ployzctl image push -`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.push(cmd.Context(), args[0], strings.Join(args[1:], ""))
		},
	}
}

func (a *app) push(ctx context.Context, path, reference string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	archive, err := a.archive(ctx, c, path)
	if err != nil {
		return err
	}
	defer archive.Close()
	view := a.newLive()
	image, err := c.ImportImage(ctx, reference, archive, func(e api.ImportEvent) {
		view.show(api.Event{Type: api.EventStepIntended, Step: "import"})
		view.show(api.Event{Type: api.EventProgress, Step: "import", Part: e.Part, Done: e.Done, Total: e.Total})
	})
	view.end()
	if err != nil {
		return err
	}
	return a.answer(image, func() error {
		if a.quiet {
			_, err = fmt.Fprintln(a.out, image.Digest)
			return err
		}
		_, err = fmt.Fprintf(a.out, "pushed: %s %s\n", strings.Join(image.References, " "), image.Digest)
		return err
	})
}

// archive opens what is to be sent as a tar stream.
func (a *app) archive(ctx context.Context, c *sdk.Client, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(a.in), nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, api.Errorf(api.CodeImageBadArchive, "%w", err).About(path)
	}
	if st.IsDir() {
		return a.layout(ctx, c, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, api.Errorf(api.CodeImageBadArchive, "%w", err).About(path)
	}
	return f, nil
}

// layout streams an OCI layout's folder without the blobs that the machine has.
func (a *app) layout(ctx context.Context, c *sdk.Client, dir string) (io.ReadCloser, error) {
	have, err := oci.LayoutBlobs(dir)
	if err != nil {
		return nil, err
	}
	lacking, err := c.MissingBlobs(ctx, have)
	if err != nil {
		return nil, err
	}
	a.note("%d of %d blobs are there already", len(have)-len(lacking), len(have))
	needed := map[string]bool{}
	for _, d := range lacking {
		needed[d] = true
	}
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(oci.WriteLayout(ctx, dir, w, func(d string) bool { return !needed[d] }))
	}()
	return r, nil
}
