// Command compat does what a backend in Go does first: writes items, an event and a question, each
// seeing the write before it, and prints the answer as JSON.
//
//	compat HOST:PORT
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	pb "rankstream.invalid/compat/pb"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: compat HOST:PORT")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(target string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := upsertItems(ctx, pb.NewCatalogClient(conn)); err != nil {
		return fmt.Errorf("UpsertItems: %w", err)
	}
	clicked, err := recordClick(ctx, pb.NewEventsClient(conn))
	if err != nil {
		return fmt.Errorf("RecordEvents: %w", err)
	}
	ranked, err := pb.NewRankingClient(conn).Rank(ctx, &pb.RankRequest{
		RequestId:  "from-go",
		Subject:    &pb.RankRequest_UserId{UserId: "gopher"},
		Candidates: &pb.RankRequest_ItemIds{ItemIds: &pb.ItemIds{ItemIds: []string{"go-kettle", "go-novel", "go-nothing"}}},
		ReadAfter:  seeing(clicked),
	})
	if err != nil {
		return fmt.Errorf("Rank: %w", err)
	}
	fmt.Println(protojson.Format(ranked))
	return nil
}

// upsertItems returns when the items can be ranked.
func upsertItems(ctx context.Context, catalog pb.CatalogClient) error {
	written, err := catalog.UpsertItems(ctx, &pb.UpsertItemsRequest{Items: []*pb.Item{
		{ItemId: "go-novel", Title: "A detective novel", Category: "books", Tags: []string{"crime"}},
		{ItemId: "go-kettle", Title: "A steel kettle", Category: "kitchen"},
	}})
	if err != nil {
		return err
	}
	for _, result := range written.Results {
		if result.GetStatus().GetCode() != 0 {
			return fmt.Errorf("%s: %s", result.ItemId, result.Status.Message)
		}
	}
	_, err = catalog.GetItem(ctx, &pb.GetItemRequest{ItemId: "go-kettle", ReadAfter: seeing(written.Token)})
	return err
}

// recordClick returns the token of the event.
func recordClick(ctx context.Context, events pb.EventsClient) ([]byte, error) {
	recorded, err := events.RecordEvents(ctx, &pb.RecordEventsRequest{Events: []*pb.Event{
		{UserId: "gopher", Type: "click", ItemId: "go-novel"},
	}})
	if err != nil {
		return nil, err
	}
	if status := recorded.Results[0].GetStatus(); status.GetCode() != 0 {
		return nil, fmt.Errorf("the event: %s", status.Message)
	}
	return recorded.Token, nil
}

// seeing makes a read wait for the write that gave the token.
func seeing(token []byte) *pb.ReadAfter {
	longest := uint32(10_000)
	return &pb.ReadAfter{MinToken: token, MaxWaitMs: &longest}
}
