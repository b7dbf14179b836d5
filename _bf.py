import sys, time
from pathlib import Path
from moe_asr.fsa.build_files import *
from moe_asr.fsa.steps import format_steps
job=GraphJob('/tmp/bg/L_disambig.safetensors','/tmp/bg/G.safetensors','/tmp/bg/tokens.txt','/tmp/bg/words.txt',builder=sys.argv[1])
Path('/tmp/bg/'+sys.argv[1]).mkdir(exist_ok=True)
limit=int(sys.argv[2])<<20 if len(sys.argv)>2 else None
t=time.time()
print(format_steps(build_graph_files(job,'/tmp/bg/'+sys.argv[1],limit)),time.time()-t)
