"""Another model while the server serves: what clients see of it, and what is left of it."""

import pytest
from folders import write_random_model

from rankstream.client import Client, Event, Item


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of different dimensions."""
    place = tmp_path_factory.mktemp("models")
    return write_random_model(place / "small"), write_random_model(place / "wide", hidden_size=64)


def test_spike(models, serve):
    import time

    t = time.time()
    server = serve(model=models[0], backend="torch", precision="f32", max_batch_tokens=1024).start()
    print("start", time.time() - t)
    with Client(server.target, admin_target=f"127.0.0.1:{server.admin_port}") as client:
        r = client.import_items([Item(f"i{n}", title=f"toy {n} train {n % 7}") for n in range(300)])
        client.record_events(
            [Event("ann", "click", item_id="i3"), Event("ann", "search", text="blue toy")]
        )
        for p in client.reindex(str(models[1]), settings={"backend": "torch", "precision": "f32"}):
            print(round(time.time() - t, 2), p)
        print(client.rank("ann", k=3))
        print(client.server_info().generations)
        for p in client.rollback_reindex():
            print(round(time.time() - t, 2), p)
        print(client.rank("ann", k=3).served_by)
        print(client.drop_generation())
    print(server.log[-3000:])
    assert 0
