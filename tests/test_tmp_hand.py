import time, threading, subprocess, sys, os, json, pytest
from support.emulated import *
from support.emulated import configured, emulator, settings
from support.kernels import *
from jupyter_dsvm.models import LinkPhase
def timed(f, limit):
    out=[]
    def run():
        try: out.append(("ok", f()))
        except BaseException as e: out.append(("err", type(e).__name__, str(e)))
    t0=time.monotonic(); th=threading.Thread(target=run, daemon=True); th.start(); th.join(limit)
    print("TIMED", time.monotonic()-t0, out or "HANGS"); return out

@pytest.mark.parametrize("now", [True, False])
def test_restart_out_of_reach(configured, now):
    with Notebook() as nb:
        attached(nb,"cpu-vm")
        configured.kill_ssh("cpu-vm")
        until(lambda: nb.proxy.status.link.state is LinkPhase.RECONNECTING)
        print("restart now=",now); timed(lambda: nb.km.restart_kernel(now=now), 40)
        print(nb.proxy.status)
        configured.start_ssh("cpu-vm")
        time.sleep(3)
        print(nb.proxy.status)
        print(timed(lambda: nb.run(WHERE,timeout=10).content, 12))
        print([o for o in ours(configured,"cpu-vm")])
        print(moved(nb,"free").state, where(nb))

def test_shutdown_out_of_reach(configured):
    nb=Notebook()
    attached(nb,"cpu-vm")
    configured.kill_ssh("cpu-vm")
    until(lambda: nb.proxy.status.link.state is LinkPhase.RECONNECTING)
    timed(lambda: nb.km.shutdown_kernel(now=False), 60)
    nb.close()
    configured.start_ssh("cpu-vm")
    time.sleep(3)
    print(ours(configured,"cpu-vm"))

def test_old_and_twin(configured):
    with Notebook() as nb:
        for n in ("old-vm","notebooks/twin","classroom/twin"):
            print(n, moved(nb,n).state, nb.run(WHERE+";print(os.getcwd())").text)
        configured.power("old-vm","powerOff")
        for r in configured.vms:
            if r["name"]=="twin" and r["power_state"]=="running": configured.power(r["vm_id"],"deallocate")

def test_kernelspec(configured, tmp_path):
    env={**os.environ,"JUPYTER_DEFAULT_PROVISIONER_NAME":""}
    env.pop("JUPYTER_DEFAULT_PROVISIONER_NAME")
    r=subprocess.run([sys.executable,"-m","jupyter_dsvm","kernelspec","install","cpu-vm"],capture_output=True,text=True,env=env); print(r)
    r=subprocess.run([sys.executable,"-m","jupyter_dsvm","list","--json"],capture_output=True,text=True,env=env); print(r.stdout[:300], r.stderr)
    from jupyter_client.kernelspec import KernelSpecManager
    names=[n for n in KernelSpecManager().find_kernel_specs()]; print(names)
    name=next(n for n in names if n.startswith("dsvm-"))
    with Notebook(name) as nb:
        print(where(nb)); print(nb.run("%dsvm status").text)
        print(nb.run("%dsvm detach").content, where(nb))
        print(nb.km.restart_kernel(), where(nb))
