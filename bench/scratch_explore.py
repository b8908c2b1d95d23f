import sys, os, signal, time, tempfile, pathlib
import numpy as np
from prefill import prepare, copy
from broker import running_broker
from serving import running_server, cpu_seconds, private_bytes
from traffic import Traffic, producer_name
from load import Load
from freshness import Probes
from rankings import *
from rankstream.server.store import Store
from rankstream.server.paths import Paths
cache = pathlib.Path('../.cache/bench').resolve()
state = prepare(cache)
what = sys.argv[1:]
with tempfile.TemporaryDirectory(dir=cache) as tmp, running_broker() as bs:
    t=time.time(); d = copy(state, pathlib.Path(tmp)/'s'); print('copy', time.time()-t, flush=True)
    with running_server(bs, d) as server:
        print('serving', server.serving_s, flush=True)
        ing, = server.children('ingest'); 
        store = Store(Paths(d).store, map_size_gib=256, write=False)
        def pos():
            with store.read() as v: return sum(p.next_offset for p in v.positions() if p.lane=='events')
        if 'rank' in what:
            for name, m, reqs in (('c256', RANK, rank_candidates(500,1)), ('whole', RANK, rank_whole(500,1)), ('batch', BATCH_RANK, batch_rank(10,64,1))):
                r = Load(server.address, m, 4, in_flight=1).run(reqs); print(name, 'closed 1', r.summary(), flush=True)
                r = Load(server.address, m, 4, in_flight=8).run(reqs); print(name, 'closed 8', r.summary(), flush=True)
            r = Load(server.address, RANK, 5, rate=300).run(rank_candidates(500,1)); print('open 300', r.summary(), flush=True)
            r = Load(server.address, RANK, 5, rate=150).run(rank_candidates(500,1)); print('open 150', r.summary(), flush=True)
        if 'catch' in what:
            for rep in range(3):
                base = pos()
                os.kill(ing, signal.SIGSTOP)
                c = Traffic(bs, 'rankstream.events', 120000, seed=100+rep).start(); c.begin(); print(c.result(), flush=True)
                c0=cpu_seconds(ing); t=time.perf_counter(); os.kill(ing, signal.SIGCONT)
                while pos() < base+120000: time.sleep(0.002)
                dt=time.perf_counter()-t; cpu=cpu_seconds(ing)-c0
                print('catch up', 120000/dt, 'per s', 120000/cpu, 'per cpu s', flush=True)
        if 'visible' in what:
            for rate in (0, 1000, 5000):
                secs=5
                L = Load(server.address, RANK, secs, rate=150).start(rank_candidates(500,1))
                T = Traffic(bs, 'rankstream.events', rate*secs, rate=rate, seed=200+rate).start() if rate else None
                P = Probes(bs, 'rankstream.events', 4, server.address, secs, 40, seed=3).start()
                c0=cpu_seconds(ing)
                L.begin(); T and T.begin(); P.begin()
                v = P.result(); l = L.result(); t = T and T.result()
                print(rate, {k: x.summary() for k,x in v.items()}, 'ingest cpu', (cpu_seconds(ing)-c0)/secs); print('  rank', l.summary(), t, flush=True)
        print('private', private_bytes(server.children('worker')[0])/1e6)
