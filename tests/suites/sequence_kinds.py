"""What one user does with a few JSON files in a directory: a table of kinds of commands, drawn from at random.

A command is shell text with marks, each a letter behind an @. A mark stands for the same thing in all of one command:
  @o @p    an object's name, and another's             @t @u  temporary names, now and then an object's
  @s @r    a scratch file's name, and another's         @z @q  temporary names, never an object's
  @x @y    any name of these, and another               @n @v  a new number, a small number
  @j @J    a JSON object as one word; as lines          @S @F  a sed script, a jq filter, each as one word
and each of these for another command: @E as it is (a line must end behind it), @Q as one word, @D as one word for any sh.

What a command may do: all texts are whole JSON objects whenever a program closes one or moves it, no object is empty when
the command ends, names are never linked, and no file is read through a descriptor that was opened before it was written in
place. Its outcome depends on nothing but the files: on no time of day, process number or order of a directory.
"""
import json
import re
import shlex
import shutil

# Programs that a machine may lack; a kind that mentions one is then left out.
PROGRAMS = ('node npm vim nvim ex ed emacs perl jq sponge rsync patch git make script gawk busybox zip cpio xz zstd flock '
            'setsid curl diff dash runuser').split()

RENAMEAT2 = "python3 -c 'import ctypes,sys;a,b,f=sys.argv[1:];sys.exit(ctypes.CDLL(None).renameat2(-100,a.encode(),-100,b.encode(),int(f))!=0)'"


def quote(word):
    return shlex.quote(word).replace("'\"'\"'", "'\\''")


def python(code, *words):
    return ' '.join(['python3 -c', quote(code.strip('\n')), *words])


def node(code, *words):
    return ' '.join(['node -e', quote("const fs=require('fs'),cp=require('child_process');const [f,g,n]=process.argv.slice(1);" + code), *words])


# Commands that give one file another text.
EDITS = {
    'echo >': "echo @j > @x",
    'printf >': "printf %s @j > @x",
    'echo > twice': "echo @j > @o; echo '{\"v\":@n}' > @o",
    'here-document': "cat > @x <<'END'\n@J\nEND",
    'group >': "{ echo '{\"v\":@n,'; cat <<< '\"w\":@v'; echo '}'; } > @x",
    'loop >': "{ printf '{\"v\":@n'; for i in 1 2 3; do printf ',\"k%d\":%d' $i @v; done; echo '}'; } > @x",
    'exec 3>': "exec 3> @x; printf '{\"v\":%d}\\n' @n >&3; exec 3>&-",
    'exec 3> in pieces': "exec 3> @x; printf '{\"v\":' >&3; printf '%d}\\n' @n >&3; exec 3>&-",
    'exec 3>>': "[ -s @x ] && { exec 3>> @x; echo >&3; printf ' ' >&3; exec 3>&-; }",
    '>| noclobber': "set -C; echo @j > @x; echo @j >| @x; set +C",
    'tee': "echo @j | tee @x",
    'tee two': "tee @x > @y <<< @j",
    'tee -a': "[ -s @x ] && echo | tee -a @x > /dev/null",
    'sponge': "[ -s @o ] && sed @S @o | sponge @o",
    'jq | sponge': "[ -s @o ] && jq -c @F @o | sponge @o",
    'sort -o': "echo @j | sort -o @x",
    'dd of=': "echo @j | dd of=@x status=none",
    'dd notrunc': "[ -s @x ] && printf '{' | dd of=@x bs=1 conv=notrunc status=none",
    'dd seek': "at@n=$(grep -abo '[0-9]' @x | head -n 1 | cut -d: -f1); [ -n \"$at@n\" ] && printf 7 | dd of=@x bs=1 seek=$at@n conv=notrunc status=none",
    'install /dev/stdin': "echo @j | install -m 640 /dev/stdin @x",
    'cp /dev/stdin': "cp /dev/stdin @x <<< @j",
    'empty, then echo >>': ": > @x; echo @j >> @x",
    'truncate, then cat >>': "truncate -s 0 @x; cat >> @x <<< @j",
    '/dev/null, then echo >': "cat /dev/null > @o; echo @j > @o",
    'touch, then echo >': "rm -f @x; touch @x; echo @j > @x",
    'rm, then echo >': "rm -f @x; echo @j > @x",
    'append white space': "[ -s @x ] && printf ' \\n' >> @x",
    'truncate white space': "[ -s @x ] && printf '    ' >> @x && truncate -s -3 @x",
    'echo > t && mv': "echo @j > @t && mv @t @x",
    'echo > t; mv -f; edit': "echo @j > @t; mv -f @t @o; sed -i @S @o",
    'echo > t; cp t': "echo @j > @t; cp @t @x; rm -f @t",
    'cat t >': "echo @j > @t; cat @t > @x; rm -f @t",
    'mktemp': "t@n=$(mktemp) && sed @S @x > \"$t@n\" && mv \"$t@n\" @x; rm -f \"$t@n\"",
    'mktemp beside': "t@n=$(mktemp ./tmp.XXXXXX) && sed @S @x > \"$t@n\" && mv \"$t@n\" @x; rm -f \"$t@n\"",
    'mktemp .json': "t@n=$(mktemp ./tmpXXXXXX.json) && cp @x \"$t@n\" && sed -i @S \"$t@n\" && mv \"$t@n\" @x; rm -f \"$t@n\"",
    'sed -i': "sed -i @S @x",
    'sed -i all': "sed -i @S *.json",
    'sed -i.bak': "sed -i.bak @S @o",
    'sed -i.bak; rm': "sed -i.bak @S @o; rm -f @o.bak",
    'sed -i.bak; mv back': "sed -i.bak @S @o; [ -e @o.bak ] && mv @o.bak @o",
    'sed -i.bak; cp back': "sed -i.bak @S @o; [ -e @o.bak ] && cp @o.bak @o; rm -f @o.bak",
    'sed -i into dir': "mkdir -p d; sed -i'd/*' @S @o",
    'sed -i twice': "sed -i @S @o && sed -i @S @o",
    'sed > t && mv': "sed @S @x > @t && mv @t @x; rm -f @t",
    'sed > t && cp': "sed @S @o > @t && cp @t @o; rm -f @t",
    'sed w': "sed -n -e @S -e 'w @z' @o && mv @z @o; rm -f @z",
    'sed --follow-symlinks': "ln -s @o @z && sed -i --follow-symlinks @S @z; rm -f @z",
    'echo > link': "ln -s @o @z && { [ -e @o ] && echo @j > @z; }; rm -f @z",
    'busybox sed -i': "busybox sed -i @S @x",
    'tr': "tr 0-8 1-9 < @o > @t && [ -s @t ] && mv @t @o; rm -f @t",
    'awk > t && mv': "awk '{sub(/\"v\": *[0-9]+/, \"\\\"v\\\":@n\")} 1' @x > @t && mv @t @x; rm -f @t",
    'gawk inplace': "gawk -i inplace '{sub(/\"v\": *[0-9]+/, \"\\\"v\\\":@n\")} 1' @x",
    'jq > t && mv': "jq -c @F @x > @t && mv @t @x; rm -f @t",
    'jq pretty > t && mv': "jq @F @o > @o.tmp && mv @o.tmp @o; rm -f @o.tmp",
    'jq > t && cat': "jq -S @F @o > @t && cat @t > @o; rm -f @t",
    'jq variable': "x@n=$(jq -c @F @o) && [ -n \"$x@n\" ] && echo \"$x@n\" > @o",
    'jq -n': "jq -n --argjson n @n '{v:$n,made:\"jq\"}' > @x",
    'jq --slurpfile': "[ -s @p ] && jq -c --slurpfile p @p '.p=($p[0].v)' @o > @t && mv @t @o; rm -f @t",
    'jq -s merge': "[ -s @p ] && jq -c -s '.[0] * .[1]' @o @p > @t && mv @t @o; rm -f @t",
    'jq loop': "for f in *.json; do jq -c @F \"$f\" > \"$f.tmp\" && mv \"$f.tmp\" \"$f\"; done",
    'perl -pi': "perl -pi -e 's/\"v\": *\\d+/\"v\":@n/' @x",
    'perl -pi.bak': "perl -pi.bak -e 's/\"v\": *\\d+/\"v\":@n/' @o",
    'perl -pi.bak; mv back': "perl -pi.bak -e 's/\"v\": *\\d+/\"v\":@n/' @o; [ -e @o.bak ] && mv @o.bak @o",
    'perl -0pi': "perl -0pi -e 's/\\s*\\}\\s*\\z/,\"e\":@n}\\n/' @o",
    'perl +<': "perl -e 'open(F,\"+<\",$ARGV[0]) or exit 1;local $/;$_=<F>;s/\"v\": *\\d+/\"v\":$ARGV[1]/;seek F,0,0;print F;truncate F,tell F;close F' @x @n",
    'perl rename': "perl -e '($f,$t,$n)=@ARGV;open(I,\"<\",$f) or exit 1;open(O,\">\",$t);while(<I>){s/\"v\": *\\d+/\"v\":$n/;print O}close O;rename $t,$f' @x @t @n",
    'perl File::Copy': "perl -MFile::Copy -e '($f,$t)=@ARGV;copy($f,$t) or exit 1;system(\"sed\",\"-i\",\"s/v/u/\",$f);move($t,$f)' @o @z",
    'perl restore': "perl -e '$f=$ARGV[0];open(I,\"<\",$f) or exit 1;@l=<I>;close I;system(\"sed\",\"-i\",\"s/v/z/\",$f);open(O,\">\",$f);print O @l' @o",
    'ed': "[ -s @o ] && printf '%s\\n' ',s/\"v\": *[0-9][0-9]*/\"v\":@n/' w q | ed -s @o",
    'ed w other': "[ -s @o ] && printf '%s\\n' 'w @z' q | ed -s @o && mv @z @p",
    'ed and its child': "[ -s @o ] && printf '%s\\n' ',s/\"v\"/\"u\"/' '!sed -i s/w/x/ @o' w q | ed -s @o",
    'ex': "[ -s @o ] && ex -u NONE -i NONE -s -c '%s/\"v\": *[0-9][0-9]*/\"v\":@n/e' -c x @o",
    'patch': "cp @o @z && sed -i @S @z; diff -u @o @z > @q; patch -s @o < @q; rm -f @z @q @o.orig @o.rej",
    'patch -b -R': "cp @o @z && sed -i @S @z; diff -u @z @o > @q; patch -s -b -R @o < @q; rm -f @z @q @o.orig @o.rej",
    'patch refused': "[ -s @o ] && patch -s @o <<< $'--- a\\n+++ b\\n@@ -1 +1 @@\\n-no\\n+such'; rm -f @o.rej @o.orig",
    'patch and back': "cp @o @z && sed -i @S @o; diff -u @z @o > @q; patch -s -R @o < @q; rm -f @z @q @o.orig @o.rej",
    'curl -o': "echo @j > @z; curl -s -o @x \"file://$PWD/\"@z; rm -f @z",
    'npm pkg set': "[ -s @o ] && cp @o package.json && npm pkg set p=@n && mv package.json @o; rm -f package.json",
    'split; cat': "[ -s @o ] && split -b 5 @o @z. && cat @z.* > @q && mv @q @o; rm -f @z.*",
    'in /dev/fd': "[ -s @o ] && x@n=$(<@o) && cp /dev/fd/3 @o 3<<< \"$x@n\"",
    'write and remove temp': "echo @j > @z; mv @z @o; rm -f @z",
    'python json': python("import json,sys;f=sys.argv[1];d=json.load(open(f));d['p']=int(sys.argv[2]);open(f,'w').write(json.dumps(d))", '@x @n'),
    'python json dump indent': python("import json,sys\nf=sys.argv[1]\nwith open(f) as i: d=json.load(i)\nd['q']=[int(sys.argv[2])]*3\nwith open(f,'w') as o: json.dump(d,o,indent=2); o.write('\\n')", '@o @n'),
    'python r+': python("import json,sys\nwith open(sys.argv[1],'r+') as f:\n d=json.load(f); d['r']=int(sys.argv[2]); f.seek(0); json.dump(d,f); f.truncate()", '@x @n'),
    'python r+ truncate first': python("import json,sys\nwith open(sys.argv[1],'r+') as f:\n d=json.load(f); d['r']=int(sys.argv[2]); f.seek(0); f.truncate(); json.dump(d,f)", '@o @n'),
    'python replace': python("import os,sys\nf,t,n=sys.argv[1:]\ns=open(f).read().replace('v',chr(97+int(n)%26))\nwith open(t,'w') as o: o.write(s); o.flush(); os.fsync(o.fileno())\nos.replace(t,f)", '@x @t @n'),
    'python replace inside with': python("import os,sys,json\nf,t,n=sys.argv[1:]\nwith open(f) as i:\n d=json.load(i); d['i']=int(n)\n with open(t,'w') as o:\n  json.dump(d,o); o.flush(); os.replace(t,f)", '@x @z @n'),
    'python two handles': python("import sys,json\nf=sys.argv[1]\nwith open(f) as i:\n d=json.load(i)\n with open(f,'w') as o: d['h']=int(sys.argv[2]); json.dump(d,o)", '@o @n'),
    'python NamedTemporaryFile': python("import os,sys,json,tempfile\nd=json.load(open(sys.argv[1]));d['t']=int(sys.argv[2])\nwith tempfile.NamedTemporaryFile('w',dir='.',suffix='.json',delete=False) as t: json.dump(d,t)\nos.replace(t.name,sys.argv[1])", '@x @n'),
    'python NamedTemporaryFile scratch': "[ -e @o ] && " + python("import os,sys,shutil,tempfile\nwith tempfile.NamedTemporaryFile('w',dir='.',prefix='.'+sys.argv[1],delete=False) as t: shutil.copyfileobj(open(sys.argv[1]),t)\nopen(t.name,'a').write('\\n')\nos.rename(t.name,sys.argv[1])", '@o'),
    'python NamedTemporaryFile gone': python("import sys,shutil,tempfile\nwith tempfile.NamedTemporaryFile('w+',dir='.',suffix='.json') as t:\n t.write('{\"v\":%s}' % sys.argv[2]); t.flush(); shutil.copy(t.name,sys.argv[1])", '@o @n'),
    'python shutil': python("import shutil,sys\nf,t=sys.argv[1:]\nshutil.copy2(f,t)\nopen(f,'w').write('{\"v\":1,\"s\":2}')\nshutil.move(t,f)", '@o @t'),
    'python pathlib': python("import pathlib,sys\np=pathlib.Path(sys.argv[1]);t=p.read_text()\np.write_text(t.replace('\"v\"','\"u\"'))\nq=p.with_suffix('.new');q.write_text(t);q.replace(p)", '@o'),
    'python pathlib rename': python("import pathlib,sys\np=pathlib.Path(sys.argv[1]);b=p.rename(str(p)+'.old')\np.write_text(b.read_text().replace('\"v\"','\"y\"'));b.unlink()", '@o'),
    'python mmap': python("import mmap,sys,re\nwith open(sys.argv[1],'r+b') as f:\n m=mmap.mmap(f.fileno(),0);k=re.search(rb'[0-9]',m)\n if k: m[k.start():k.start()+1]=b'8'\n m.flush();m.close()", '@x'),
    'python mmap no flush': python("import mmap,sys,re\nf=open(sys.argv[1],'r+b');m=mmap.mmap(f.fileno(),0);f.close()\nk=re.search(rb'[0-9]',m)\nif k: m[k.start():k.start()+1]=b'6'\nm.close()", '@x'),
    'python fileinput': python("import fileinput,sys\nfor l in fileinput.input(sys.argv[1],inplace=True): print(l.replace('\"v\"','\"f\"'),end='')", '@x'),
    'python fileinput backup': python("import fileinput,sys,os\nwith fileinput.input(sys.argv[1],inplace=True,backup='.bak') as i:\n for l in i: print(l.replace('\"w\"','\"f\"'),end='')\nos.replace(sys.argv[1]+'.bak',sys.argv[1])", '@o'),
    'python pwrite': python("import os,sys\nd=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT);t=b'{\"v\":%d}' % int(sys.argv[2])\nos.ftruncate(d,0);os.pwrite(d,t,0);os.fsync(d);os.close(d)", '@x @n'),
    'python a+': "[ -s @o ] && " + python("import sys\nwith open(sys.argv[1],'a+') as f:\n f.seek(0)\n if f.read(): f.write('\\n\\n')", '@o'),
    'python w+': python("import sys\nwith open(sys.argv[1],'w+') as f:\n f.write('{\"v\":%s}' % sys.argv[2]); f.seek(0); print(f.read())", '@x @n'),
    'python x': python("import os,sys\nf=sys.argv[1]\nif os.path.exists(f): os.unlink(f)\nwith open(f,'x') as o: o.write('{\"x\":%s}\\n' % sys.argv[2])", '@x @n'),
    'python thread': python("import sys,threading\nf=sys.argv[1];t=open(f).read()\ndef put(s): open(f,'w').write(s)\nfor s in (t.replace('v','q'),t):\n h=threading.Thread(target=put,args=(s,));h.start();h.join()", '@o'),
    'python fork': python("import os,sys\nf=sys.argv[1];t=open(f).read();p=os.fork()\nif p==0:\n open(f,'w').write('{\"child\":1}');os._exit(0)\nos.waitpid(p,0);s=open(f).read();open(f,'w').write(t);print(s)", '@o'),
    'python pool': python("import sys,multiprocessing\ndef put(a): open(a[0],'w').write(a[1])\nif __name__=='__main__':\n f=sys.argv[1];t=open(f).read()\n with multiprocessing.Pool(1) as p: p.map(put,[(f,'{\"pool\":1}')])\n open(f,'w').write(t)", '@o'),
    'python child sed': python("import sys,subprocess\nf=sys.argv[1];t=open(f).read()\nsubprocess.run(['sed','-i','s/v/u/',f])\nopen(f,'w').write(t)", '@o'),
    'python child, new session': python("import sys,subprocess\nf=sys.argv[1];t=open(f).read()\nsubprocess.run(['sed','-i','s/v/u/',f],start_new_session=True)\nopen(f,'w').write(t)", '@o'),
    'python copy_file_range': python("import os,sys\na=os.open(sys.argv[1],os.O_RDONLY);n=os.fstat(a).st_size;b=os.open(sys.argv[2],os.O_WRONLY|os.O_CREAT|os.O_TRUNC,0o644)\nwhile n>0: n-=os.copy_file_range(a,b,n)", '@x @t') + ' && mv @t @y',
    'python sendfile': python("import os,sys\na=os.open(sys.argv[1],os.O_RDONLY);n=os.fstat(a).st_size;b=os.open(sys.argv[2],os.O_WRONLY|os.O_CREAT|os.O_TRUNC,0o644)\nos.sendfile(b,a,0,n)", '@x @y') + ' || :',
    'python TemporaryDirectory': python("import os,sys,shutil,tempfile\nwith tempfile.TemporaryDirectory(dir='.') as d:\n shutil.copy(sys.argv[1],d+'/a.json'); open(d+'/a.json','a').write(' \\n'); os.replace(d+'/a.json',sys.argv[1])", '@x'),
    'python json.tool': "python3 -m json.tool @o @t && mv @t @o; rm -f @t",
    'python json.tool in place': "python3 -m json.tool --compact @o @o",
    'python script on stdin': "python3 - @x @n <<'END'\nimport json, sys\nd = json.load(open(sys.argv[1]))\nd.update(stdin=int(sys.argv[2]))\nopen(sys.argv[1], 'w').write(json.dumps(d, sort_keys=True) + '\\n')\nEND",
    'python many saves': python("import json,sys\nf=sys.argv[1];d=json.load(open(f))\nfor i in range(5):\n d['i']=i\n with open(f,'w') as o: json.dump(d,o)\n d=json.load(open(f))", '@o'),
    'python undo': python("import json,sys\nf=sys.argv[1];s=[open(f).read()]\nfor i in range(3):\n d=json.loads(s[-1]);d['u%d'%i]=i;s.append(json.dumps(d));open(f,'w').write(s[-1])\nfor t in s[1::-1]: open(f,'w').write(t)", '@o'),
    'python large': python("import json,sys;n=int(sys.argv[2]);open(sys.argv[1],'w').write(json.dumps({'v':n,'big':list(range(n*100%9000))}))", '@x @n'),
    'node json': node("const d=JSON.parse(fs.readFileSync(f));d.node=+g;fs.writeFileSync(f,JSON.stringify(d,null,2)+'\\n')", '@x @n'),
    'node rename': node("const d=JSON.parse(fs.readFileSync(f));d.node=+n;fs.writeFileSync(g,JSON.stringify(d));fs.renameSync(g,f)", '@x @t @n'),
    'node execSync between': node("const t=fs.readFileSync(f,'utf8');cp.execFileSync('sed',['-i','s/v/u/',f]);fs.writeFileSync(f,t)", '@o'),
    'node exec between': node("const t=fs.readFileSync(f,'utf8');cp.execFile('sed',['-i','s/v/u/',f],()=>fs.writeFile(f,t,()=>{}))", '@o'),
    'node promises': node("const p=fs.promises;(async()=>{const t=await p.readFile(f,'utf8');await p.writeFile(f,'{\"v\":1,\"async\":2}');await p.copyFile(f,g);await p.writeFile(f,t);await p.rename(g,f)})()", '@o @z'),
    'node stream': node("const t=fs.readFileSync(f);const o=fs.createWriteStream(f);o.write(t);o.end('\\n')", '@o'),
    'node r+': node("const t=fs.readFileSync(f,'utf8').replace(/\"v\": *\\d+/,'\"v\":'+g),d=fs.openSync(f,'r+');fs.ftruncateSync(d,0);fs.writeSync(d,t,0);fs.fsyncSync(d);fs.closeSync(d)", '@x @n'),
    'node copy and back': node("fs.copyFileSync(f,g);fs.writeFileSync(f,'{\"v\":3}');fs.appendFileSync(f,'\\n');fs.renameSync(g,f)", '@o @z'),
    'node unlink': node("const t=fs.readFileSync(f);fs.unlinkSync(f);fs.writeFileSync(f,t,{flag:'wx'})", '@x'),
    'node worker': node("const {Worker}=require('worker_threads');const t=fs.readFileSync(f,'utf8');new Worker('require(\"fs\").writeFileSync('+JSON.stringify(f)+',\"{}\")',{eval:true}).on('exit',()=>fs.writeFileSync(f,t))", '@o'),
    'node fork': node("const t=fs.readFileSync(f,'utf8');cp.execFileSync(process.execPath,['-e','require(\"fs\").writeFileSync(process.argv[1],\"{}\")',f]);fs.writeFileSync(f,t+'\\n')", '@o'),
    'emacs': "[ -s @o ] && emacs -Q --batch @o --eval '(progn (goto-char (point-min)) (while (re-search-forward \"\\\"v\\\": *[0-9]+\" nil t) (replace-match \"\\\"v\\\":@n\")) (save-buffer))'",
    'emacs copies': "[ -s @o ] && emacs -Q --batch --eval '(setq backup-by-copying t create-lockfiles t)' @o --eval '(progn (goto-char (point-max)) (insert \"\\n\") (save-buffer) (insert \" \") (save-buffer))'",
    'emacs no backup': "[ -s @o ] && emacs -Q --batch --eval '(setq make-backup-files nil)' @o --eval '(progn (goto-char (point-max)) (insert \" \\n\") (save-buffer) (revert-buffer t t) (insert \" \") (save-buffer))'",
    'emacs write-region': "[ -s @o ] && emacs -Q --batch @o --eval '(progn (call-process \"sed\" nil nil nil \"-i\" \"s/v/u/\" (buffer-file-name)) (write-region nil nil (buffer-file-name)))'",
    'vim :w many': "[ -s @o ] && vim -u NONE -i NONE -es -c 'set nobackup writebackup' -c '%s/\"v\": *[0-9][0-9]*/\"v\":@n/e' -c w -c 'undo' -c w -c 'redo' -c wq @o",
    'vim and its child': "[ -s @o ] && vim -u NONE -i NONE -es -c 'silent !sed -i s/v/u/ @o' -c 'w!' -c q @o",
    'vim rereads': "[ -s @o ] && vim -u NONE -i NONE -es -c 'silent !sed -i s/v/u/ @o' -c 'e!' -c '%s/w/x/e' -c wq @o",
    'vim filter': "[ -s @o ] && vim -u NONE -i NONE -es -c '%!tr 0-8 1-9' -c wq @o",
    'vim :w other': "[ -s @o ] && vim -u NONE -i NONE -es -c 'w! @z' -c '%s/v/z/e' -c wq @o; mv @z @p",
    'vim backup; mv back': "[ -s @o ] && vim -u NONE -i NONE -es -c 'set backup' -c '%s/\"v\": *[0-9][0-9]*/\"v\":@n/e' -c wq @o && { [ -e @o~ ] && mv @o~ @o; }",
    'vim patchmode': "[ -s @o ] && vim -u NONE -i NONE -es -c 'set patchmode=.orig' -c '%s/\"v\": *[0-9][0-9]*/\"v\":@n/e' -c wq @o; rm -f @o.orig",
    'vim two files': "[ -s @o ] && [ -s @p ] && vim -u NONE -i NONE -es -c 'argdo %s/\"v\": *[0-9][0-9]*/\"v\":@n/e | update' -c qa @o @p",
    'vim -r swap': "[ -s @o ] && vim -u NONE -i NONE -es -c 'set fsync swapfile directory=.' -c 'normal Go' -c wq @o",
    'nvim': "[ -s @o ] && nvim --clean --headless -es -c '%s/\"v\": *[0-9][0-9]*/\"v\":@n/e' -c wq @o",
}
for copy in ('yes', 'no', 'auto'):
    for more in ('nobackup writebackup', 'backup', 'nobackup nowritebackup'):
        EDITS[f'vim {copy} {more}'] = (f"[ -s @o ] && vim -u NONE -i NONE -es -c 'set backupcopy={copy} {more}' "
                                       "-c '%s/\"v\": *[0-9][0-9]*/\"v\":@n/e' -c wq @o")

# Commands that copy, move, remove, look.
FILES = {
    'cp': "cp @x @y",
    'rm; read what was removed': "[ -s @o ] && { ( rm @o && grep . > @o ) < @o; }",
    'rm; open its descriptor': "[ -s @o ] && { exec 3< @o; rm @o; cp /dev/fd/3 @o; exec 3<&-; }",
    'touch -d; save the same': "[ -s @o ] && touch -d @1500000000 @o && x@n=$(cat @o) && echo \"$x@n\" > @o",
    'touch -d; mv the same': "[ -s @o ] && touch -d @1500000000 @o && cp -p @o @z && chmod 600 @z && mv @z @o",
    'cp; mv; mv': "cp @o @z && mv @o @q && mv @z @o; rm -f @q",
    'numbered': "for i in 2 1 0; do [ -e keep.$i ] && mv keep.$i keep.$((i + 1)); done; cp @o keep.0; sed -i @S @o; [ -s keep.2 ] && cp keep.2 @o",
    'cp to object': "cp @s @o",
    'cp from object': "cp @o @s",
    'cp -p': "cp -p @x @y",
    'cp -a': "cp -a @x @y",
    'cp -f': "cp -f @x @y",
    'cp -n': "cp -n @x @y",
    'cp --remove-destination': "cp --remove-destination @x @y",
    'cp --sparse': "cp --sparse=always @x @y",
    'cp -b': "cp -b @x @y",
    'cp -b; mv back': "cp -b -S .old @x @y; [ -e @y.old ] && mv @y.old @y",
    'cp --attributes-only': "[ -e @x ] && [ -e @y ] && cp --attributes-only --preserve=mode @x @y",
    'cp all': "mkdir -p all && cp *.json all/ && cp all/*.json .; rm -rf all",
    'cp -r .': "cp -r . \"$W/all\" && cp \"$W/all\"/*.json .; rm -rf \"$W/all\"",
    'cat x > t, cat t > y': "[ -s @x ] && cat @x > @t && cat @t > @y; rm -f @t",
    'cat >': "[ -s @x ] && cat @x > @y",
    'dd': "dd if=@x of=@y status=none",
    'dd fsync': "dd if=@x of=@y bs=3 conv=fsync status=none",
    'install': "install -m 644 @x @y",
    'install -b': "install -b -S .old -m 600 @x @y; [ -e @y.old ] && mv @y.old @y",
    'install -C': "install -C -m 644 @x @y",
    'install -p': "install -p @x @y",
    'busybox cp': "busybox cp @x @y",
    'busybox mv': "busybox mv @x @y",
    'mv': "mv @x @y",
    'mv to object': "mv @s @o",
    'mv from object': "mv @o @s",
    'mv object': "mv @o @p",
    'mv -f': "mv -f @x @y",
    'mv -n': "mv -n @x @y",
    'mv -T': "mv -T @x @y",
    'mv -b': "mv -b @x @y",
    'mv -b; mv back': "mv -b -S .old @x @y; [ -e @y.old ] && mv @y.old @y",
    'mv --backup=numbered': "mv --backup=numbered @x @y; rm -f @y.~*",
    'mv out and in': "mv @x \"$W/out\" && mv \"$W/out\" @x",
    'mv out, cp in': "mv @x \"$W/out\" && cp -p \"$W/out\" @y; rm -f \"$W/out\"",
    'cp out, mv in': "cp @x \"$W/out\" && mv \"$W/out\" @y",
    'mv there and back': "mv @o @t && mv @t @o",
    'mv chain': "mv @o @z && mv @p @o; [ -e @z ] && mv @z @p",
    'mv chain of objects': "mv @o tmp.json && mv @p @o; [ -e tmp.json ] && mv tmp.json @p",
    'mv over and back': "mv @o @p && mv @p @o",
    'mv into d': "mkdir -p d && mv @o d/m.json && mv d/m.json @p",
    'mv -t': "mkdir -p d && mv -t d @o; [ -e d/@o ] && mv d/@o .",
    'mv all': "mkdir all && mv *.json all/; mv all/*.json .; rmdir all",
    'mv glob': "for f in *.json; do mv \"$f\" \"${f%.json}.old\"; done; for f in *.old; do mv \"$f\" \"${f%.old}.json\"; done",
    'mv d': "[ -d d ] && mv d e && echo @j > e/x.json && mv e d",
    'mv d; use': "[ -d d ] && mv d e && { [ -s e/x.json ] && mv e/x.json @o; mv e d; }",
    'cp -r d': "[ -d d ] && cp -r d e && { [ -s e/x.json ] && cp e/x.json @o; rm -r e; }",
    'mkdir -p': "mkdir -p d/e && echo @j > d/e/a.json && mv d/e/a.json @o; rm -r d/e",
    'os.replace': python("import os,sys;os.replace(*sys.argv[1:])", '@x @y'),
    'shutil.copy': python("import shutil,sys;shutil.copy(*sys.argv[1:])", '@x @y'),
    'shutil.copy2': python("import shutil,sys;shutil.copy2(*sys.argv[1:])", '@x @y'),
    'shutil.move': python("import shutil,sys;shutil.move(*sys.argv[1:])", '@x @y'),
    'node copyFileSync': node("fs.copyFileSync(f,g)", '@x @y'),
    'node renameSync': node("fs.renameSync(f,g)", '@x @y'),
    'exchange': RENAMEAT2 + ' @x @y 2',
    'exchange and back': RENAMEAT2 + ' @o @s 2 && ' + RENAMEAT2 + ' @s @o 2',
    'noreplace': RENAMEAT2 + ' @x @y 1',
    'rm': "rm -f @x",
    'rm scratch': "rm -f @s",
    'rm d': "rm -rf d; mkdir d",
    'rm all': "rm -f *.json; echo @j > @o",
    'rm; restore': "cp @o @z && rm @o && mv @z @o",
    'find -delete': "find . -maxdepth 1 -name @x -delete",
    'touch': "[ -e @x ] && touch @x",
    'touch -d': "[ -e @x ] && touch -d @1000000000 @x",
    'touch -r': "[ -e @x ] && [ -e @y ] && touch -d @1100000000 @x && touch -r @x @y",
    'touch -d; cp -p': "[ -e @x ] && touch -d @1200000000 @x && cp -p @x @y",
    'touch -d; mv': "[ -e @x ] && touch -d @1300000000 @x && mv @x @y",
    'touch -d; edit': "[ -e @o ] && touch -d @1400000000 @o && sed -i @S @o",
    'chmod': "[ -e @x ] && chmod 640 @x && stat -c %a @x",
    'chmod +x': "[ -e @x ] && chmod +x @x",
    'chmod 600; echo >': "[ -e @o ] && chmod 600 @o && echo @j > @o",
    'chmod 644 all': "chmod 644 *.json",
    'ln scratch': "[ -e @s ] && ln @s @z && echo @j > @z && stat -c %h @s && cat @s; rm -f @z",
    'ln scratch; mv': "[ -e @s ] && ln @s @z && rm @s && mv @z @s",
    'ln -s': "ln -s @o @z; cat @z; [ -e @z ] && cp @z @s; rm -f @z",
    'rsync -a': "rsync -a -I @x @y",
    'rsync --inplace': "rsync -a -I --inplace @x @y",
    'rsync -b': "rsync -a -I -b --suffix=.old @x @y; [ -e @y.old ] && mv @y.old @y",
    'rsync -c': "rsync -rtc @x @y",
    'rsync all': "mkdir all && rsync -a -I *.json all/ && rsync -a -I all/ .; rm -rf all",
    'rsync delay': "mkdir all && cp *.json all/ && rsync -a -I --delay-updates all/ .; rm -rf all",
    'tar': "tar cf @z @o && echo @j > @o && tar xf @z; rm -f @z",
    'tar all': "tar cf \"$W/all.tar\" *.json && sed -i @S @o; tar xf \"$W/all.tar\"",
    'tar --overwrite': "tar cf @z @o && echo @j > @o && tar xf @z --overwrite; rm -f @z",
    'tar | tar': "mkdir all && tar cf - *.json | tar xf - -C all && mv all/*.json .; rm -rf all",
    'gzip': "[ -e @o ] && gzip -f @o && gunzip -f @o.gz",
    'gzip -k': "[ -e @o ] && gzip -kf @o && echo @j > @o && gunzip -f @o.gz",
    'xz': "[ -e @o ] && xz -f @o && xz -df @o.xz",
    'zstd': "[ -e @o ] && zstd -q --rm -f @o && zstd -q -d --rm -f @o.zst",
    'zip': "[ -e @o ] && zip -q @z.zip @o && echo @j > @o && unzip -q -o @z.zip; rm -f @z.zip",
    'cpio': "[ -e @o ] && echo @o | cpio -o --quiet > @z && echo @j > @o && cpio -iu --quiet < @z; rm -f @z",
    'base64': "[ -s @o ] && base64 @o > @z && echo @j > @o && base64 -d @z > @o; rm -f @z",
    'cat': "cat @x @y",
    'look': "wc -c @x; head -c 20 @x; grep -c v @x; cmp @x @y",
    'look at all': "cat *.json | wc -c; md5sum *.json; grep -l v *.json; find . -maxdepth 1 -type f -name '*.json' -printf '%p %s %m %n\\n' | sort; ls *.json",
    'test': "[ -s @x ]; echo $?; [ -f @x ]; echo $?; test -x @y; echo $?; [ @x -ef @y ]; echo $?",
    'find': "find . -path ./.git -prune -o -type f -size -1000c -print | sort; find . -maxdepth 1 -name '*.json' -empty",
}

# A file is put aside, somebody works on it, and it is put back.
CHAINS = {
    'cp; …; mv back': "cp @o @t; @E\nmv @t @o",
    'cp; …; cp back': "cp @o @t; @E\ncp @t @o; rm -f @t",
    'cp -p; …; cp -p back': "cp -p @o @z; @E\ncp -p @z @o; rm -f @z",
    'cp -a; …; mv -f back': "cp -a @o @o.orig; @E\nmv -f @o.orig @o",
    'cp; …; …; mv back': "cp @o @z; @E\n@E\nmv @z @o",
    'cp two; …; mv back': "cp @o @z; cp @p @q; @E\n@E\nmv @z @o; mv @q @p",
    'mv; cp; …; mv back': "mv @o @z && { cp @z @o; @E\nmv @z @o; }",
    'mv; …; mv back': "mv @o @z && { @E\nmv @z @o; }",
    'mv; …; rm': "mv @o @z && { cp @z @o; @E\n}; rm -f @z",
    'cat; …; cat back': "[ -s @o ] && { cat @o > @z; @E\ncat @z > @o; rm -f @z; }",
    'dd; …; dd back': "dd if=@o of=@z status=none && { @E\ndd if=@z of=@o status=none; rm -f @z; }",
    'install; …; install back': "install -m 644 @o @z && { @E\ninstall -m 644 @z @o; rm -f @z; }",
    'mktemp; …; mv back': "t@n=$(mktemp) && cp -p @o \"$t@n\" && { @E\nmv \"$t@n\" @o; }; rm -f \"$t@n\"",
    'mktemp; …; cp back': "t@n=$(mktemp) && cp @o \"$t@n\" && { @E\ncp \"$t@n\" @o; }; rm -f \"$t@n\"",
    'mktemp -d': "t@n=$(mktemp -d ./bk.XXXXXX) && cp *.json \"$t@n\" && { @E\n@E\nmv \"$t@n\"/*.json .; }; rm -rf \"$t@n\"",
    'exchange; …; exchange': "cp @o @z && " + RENAMEAT2 + " @o @z 2 && { @E\n" + RENAMEAT2 + " @o @z 2; rm -f @z; }",
    'variable': "x@n=$(cat @o) && [ -n \"$x@n\" ] && { @E\necho \"$x@n\" > @o; }",
    'variable printf': "x@n=$(< @o) && [ -n \"$x@n\" ] && { @E\n@E\nprintf %s \"$x@n\" > @o; }",
    'variable in subshell': "( x@n=$(cat @o); [ -n \"$x@n\" ] && { @E\ncat <<< \"$x@n\" > @o; } )",
    'variable to t': "x@n=$(cat @o) && [ -n \"$x@n\" ] && { @E\necho \"$x@n\" > @t && mv @t @o; }",
    'mapfile': "mapfile -t lines@n < @o && [ ${#lines@n[@]} -gt 0 ] && { @E\nprintf '%s\\n' \"${lines@n[@]}\" > @o; }",
    'while read': "if [ -s @o ]; then while IFS= read -r l || [ -n \"$l\" ]; do printf '%s\\n' \"$l\"; done < @o > @z; @E\nmv @z @o; fi",
    'trap EXIT': "( cp @o @t && trap 'mv @t @o' EXIT; @E\n)",
    'trap EXIT, bash -c': "cp @o @z && DO=@Q bash -c 'trap \"mv \\\"\\$0\\\" \\\"\\$1\\\"\" EXIT; eval \"$DO\"' @z @o",
    'trap TERM': "( cp @o @t && trap 'mv @t @o; exit' TERM; @E\nkill -TERM $BASHPID )",
    'function': "keep@n() { cp \"$1\" @z && shift && { \"$@\"; mv @z @o; }; }; keep@n @o bash -c @Q",
    'sh script': "cat > @z.sh <<'END'\nset -e\ncp \"$1\" \"$1.keep\"\ntrap 'mv \"$1.keep\" \"$1\"' EXIT\nsh -c \"$2\"\nEND\nsh @z.sh @o @D; rm -f @z.sh",
    'read fd; replace; write back': "if [ -s @o ]; then exec 3< @o; echo @j > @z; mv @z @o; cat <&3 > @q; exec 3<&-; @E\nmv @q @o; fi",
    'read fd; rm; write back': "if [ -s @o ]; then exec 3< @o; rm @o; cat <&3 > @o; exec 3<&-; fi",
    'tar; …; tar back': "tar cf @z @o && { @E\ntar xf @z; }; rm -f @z",
    'tar all; …; tar back': "tar cf \"$W/keep.tar\" *.json && { @E\n@E\nrm -f *.json; tar xf \"$W/keep.tar\"; }",
    'rsync; …; rsync back': "rsync -a -I @o @z && { @E\nrsync -a -I @z @o; }; rm -f @z",
    'rsync; …; rsync --inplace back': "rsync -a -I @o \"$W/keep\" && { @E\nrsync -a -I --inplace \"$W/keep\" @o; }; rm -f \"$W/keep\"",
    'gzip -k; …; gunzip': "[ -e @o ] && gzip -kf @o && { @E\ngunzip -f @o.gz; }",
    'diff; …; patch -R': "cp @o @z && { @E\n[ -e @o ] && diff -u @z @o > @q; patch -s -R @o < @q; }; rm -f @z @q @o.orig @o.rej",
    'cp -b; …; mv back': "[ -e @o ] && cp -b -S .old @s @o; @E\n[ -e @o.old ] && mv @o.old @o",
    'sed -i.bak; …; mv back': "sed -i.bak @S @o; @E\n[ -e @o.bak ] && mv @o.bak @o",
    'vim backup; …; mv back': "[ -s @o ] && vim -u NONE -i NONE -es -c 'set backup' -c '%s/\"v\": *[0-9][0-9]*/\"v\":@n/e' -c wq @o; @E\n[ -e @o~ ] && mv @o~ @o",
    'out; …; in': "cp @o \"$W/keep\" && { @E\nmv \"$W/keep\" @o; }",
    'mv out; …; mv in': "mv @o \"$W/keep\" && { @E\nmv \"$W/keep\" @o; }",
    'all aside': "mkdir keep && cp *.json keep/ && { @E\n@E\ncp keep/*.json .; }; rm -rf keep",
    'all moved aside': "mkdir keep && mv *.json keep/; @E\n@E\nmv keep/*.json .; rm -rf keep",
    'swap with a copy': "cp @o @t && { @E\nmv @o @z; mv @t @o; rm -f @z; }",
    'mv t t2 o': "cp @o @z; @E\nmv @z @q && mv @q @o",
    'python parent': python("import sys,subprocess\nf,*c=sys.argv[1:];t=open(f).read()\nfor k in c: subprocess.run(['bash','-c',k])\nopen(f,'w').write(t)", '@o @Q @Q'),
    'python parent restores by rename': python("import sys,subprocess,shutil,os\nf,t,*c=sys.argv[1:];shutil.copy2(f,t)\ntry:\n for k in c: subprocess.run(k,shell=True,executable='/bin/bash')\nfinally: os.replace(t,f)", '@o @z @Q @Q'),
    'python rereads': python("import sys,subprocess,json\nf,c=sys.argv[1:]\nt=open(f).read();subprocess.run(['bash','-c',c])\ntry: d=json.load(open(f))\nexcept OSError: d={}\nd['seen']=len(t)\njson.dump(d,open(f,'w'))", '@o @Q'),
    'python contextmanager': python("import sys,subprocess,contextlib,pathlib\n@contextlib.contextmanager\ndef kept(f):\n p=pathlib.Path(f);b=p.read_bytes()\n try: yield\n finally: p.write_bytes(b)\nwith kept(sys.argv[1]): subprocess.run(['bash','-c',sys.argv[2]])", '@o @Q'),
    'node parent': node("const t=fs.readFileSync(f);try{cp.execFileSync('bash',['-c',g],{stdio:'inherit'})}catch(e){}fs.writeFileSync(f,t)", '@o @Q'),
    'node parent spawn': node("const t=fs.readFileSync(f);cp.spawn('bash',['-c',g],{stdio:'inherit'}).on('close',()=>{fs.writeFileSync(f+'.tmp',t);fs.renameSync(f+'.tmp',f)})", '@o @Q'),
    'perl parent': "perl -e '($f,$c)=@ARGV;open(I,\"<\",$f) or exit 1;@l=<I>;close I;system(\"bash\",\"-c\",$c);open(O,\">\",$f);print O @l' @o @Q",
    'vim parent': "[ -s @o ] && DO=@Q vim -u NONE -i NONE -es -c 'silent !bash -c \"$DO\"' -c 'w!' -c q @o",
    'vim parent, edits before': "[ -s @o ] && DO=@Q vim -u NONE -i NONE -es -c '%s/v/y/e' -c w -c 'silent !bash -c \"$DO\"' -c undo -c 'w!' -c q @o",
    'ed parent': "[ -s @o ] && DO=@Q ed -s @o <<< $'!bash -c \"$DO\"\\nw\\nq'",
    'emacs parent': "[ -s @o ] && DO=@Q emacs -Q --batch @o --eval '(progn (call-process \"bash\" nil nil nil \"-c\" (getenv \"DO\")) (write-region nil nil (buffer-file-name)))'",
    'make keeps': "FILE=@o DO=@Q make -s -f - all <<'END'\n.PHONY: all back\nall: back\n.keep:\n\tcp \"$$FILE\" .keep\nwork: .keep\n\t-bash -c \"$$DO\"\nback: work\n\tmv .keep \"$$FILE\"\nEND\nrm -f .keep",
    'worker keeps': "mkfifo \"$W/in\" \"$W/out\"; exec 6<> \"$W/out\"; { while read -r c; do eval \"$c\"; echo >&6; done < \"$W/in\"; } & exec 7> \"$W/in\"; echo \"cp @o @z\" >&7; read -r _ <&6; @E\necho \"mv @z @o\" >&7; read -r _ <&6; exec 7>&- 6>&-; wait; rm -f \"$W/in\" \"$W/out\"",
    'worker works': "mkfifo \"$W/in\" \"$W/out\"; exec 6<> \"$W/out\"; { while read -r c; do . \"$c\" < /dev/null; echo >&6; done < \"$W/in\"; } & exec 7> \"$W/in\"; cp @o @z; printf '%s\\n' @Q > \"$W/do\"; echo \"$W/do\" >&7; read -r _ <&6; mv @z @o; exec 7>&- 6>&-; wait; rm -f \"$W/in\" \"$W/out\" \"$W/do\"",
    'coproc keeps': "coproc KEEP { while read -r c; do eval \"$c\"; echo; done; }; echo 'cp @o @z' >&${KEEP[1]}; read -r _ <&${KEEP[0]}; @E\necho 'mv @z @o' >&${KEEP[1]}; read -r _ <&${KEEP[0]}; eval \"exec ${KEEP[1]}>&-\"; wait",
    'background keeps': "cp @o @z & wait; @E\nmv @z @o & wait",
    'pipe keeps': "[ -s @o ] && cat @o | { x=$(cat); DO=@Q bash -c 'eval \"$DO\"'; printf '%s\\n' \"$x\" > @o; }",
    'exec': "[ -s @o ] && bash -c 'x=$(cat \"$0\"); eval \"$1\"; exec sh -c '\\''printf \"%s\\n\" \"$1\" > \"$0\"'\\'' \"$0\" \"$x\"' @o @Q",
    'nested shells keep': "bash -c 'cp \"$0\" \"$1\"; bash -c \"bash -c '\\''eval \\\"\\$DO\\\"'\\''\"; mv \"$1\" \"$0\"' @o @z",
    'two of one pipe': "[ -s @o ] && cat @o | tee @z > /dev/null; @E\n[ -s @z ] && cat @z | tee @o > /dev/null; rm -f @z",
}
CHAINS['nested shells keep'] = 'DO=@Q ' + CHAINS['nested shells keep']

# What is told to a process that lives on, so that the tree of processes does not show which of two commands was first.
UNSEEN = ('worker keeps', 'worker works', 'coproc keeps')

# Other ways to run a command.
WRAPS = {
    'subshell': "( @E\n)",
    'subshell & wait': "( @E\n) & wait",
    '& wait pid': "bash -c @Q & p=$!; wait $p",
    'two in turn': "bash -c @Q & wait; bash -c @Q & wait",
    'bash -c': "bash -c @Q",
    'bash -c bash -c': "DO=@Q bash -c 'bash -c \"$DO\"; :'",
    'three shells': "DO=@Q bash -c 'bash -c \"bash -c \\\"\\$DO\\\"; :\"; :'",
    'sh -c': "sh -c @D",
    'dash script': "printf '%s\\n' @D > @z; dash @z; rm -f @z",
    'bash script': "printf '%s\\n' '#!/bin/bash' @Q > @z; chmod +x @z; ./@z; rm -f @z",
    'bash -s': "bash -s <<'STOP'\n{ @E\n} < /dev/null\n{ @E\n} < /dev/null\nSTOP",
    'source': "printf '%s\\n' @Q > @z; . ./@z; rm -f @z",
    'eval': "eval @Q",
    'function call': "work@n() { @E\n}; work@n",
    'timeout': "timeout 50 bash -c @Q",
    'timeout --foreground': "timeout --foreground 50 bash -c @Q",
    'env': "env A=1 bash -c @Q",
    'env -i': "env -i PATH=\"$PATH\" HOME=\"$HOME\" W=\"$W\" bash -c @Q",
    'nohup': "nohup bash -c @Q",
    'nice': "nice bash -c @Q",
    'stdbuf': "stdbuf -oL bash -c @Q",
    'setsid -w': "setsid -w bash -c @Q",
    'script': "script -qec \"bash -c \\\"\\$DO\\\"\" /dev/null",
    'flock': "flock @z bash -c @Q; rm -f @z",
    'flock the object': "[ -e @o ] && flock @o bash -c @Q",
    'flock fd': "( flock 9; @E\n) 9> @z; rm -f @z",
    'runuser': "runuser -u root -- bash -c @Q",
    'xargs': "printf '%s\\0' @Q @Q | xargs -0 -n 1 bash -c",
    'xargs -I': "echo run | DO=@Q xargs -I{} bash -c 'eval \"$DO\"' {}",
    'grep | xargs sed': "grep -l '\"v\"' *.json | tr '\\n' '\\0' | xargs -0 -r sed -i @S",
    'find -exec': "find . -maxdepth 0 -exec bash -c @Q \\;",
    'find -exec sed': "find . -maxdepth 1 -name @o -exec sed -i @S {} +",
    'find | while read': "find . -maxdepth 1 -name '*.json' | sort | while read -r f; do sed @S \"$f\" > \"$f.new\" && mv \"$f.new\" \"$f\"; done",
    'if': "if [ -e @o ]; then @E\nelse @E\nfi",
    'for': "for i in 1 2; do @E\n@E\ndone",
    'while': "i@n=0; while [ $i@n -lt 2 ]; do i@n=$((i@n + 1)); @E\ndone",
    'for f in *.json': "for f in *.json; do [ -s \"$f\" ] && cp \"$f\" \"$f.keep\" && sed -i @S \"$f\" && { [ \"$f\" = @o ] && mv \"$f.keep\" \"$f\"; }; rm -f \"$f.keep\"; done",
    'and': "{ @E\n} && { @E\n}",
    'or': "{ @E\n} || { @E\n}",
    'pipe to': "echo go | { read -r _; @E\n}",
    'pipe from': "{ @E\n} | cat",
    'pipe through': "{ @E\n} 2>&1 | tee \"$W/log\" | cat; rm -f \"$W/log\"",
    '$( )': "y@n=$( @E\n); echo \"$y@n\"",
    '<( )': "cat < <( @E\n)",
    'cd': "( mkdir -p d && cd d && cd .. && { @E\n} )",
    'cd $PWD': "( cd / && cd \"$OLDPWD\" && { @E\n} )",
    'make': "DO=@Q NEXT=@Q make -s -f - all <<'END'\n.PHONY: all first\nfirst:\n\t-bash -c \"$$DO\"\nall: first\n\t-bash -c \"$$NEXT\"\nEND",
    'make rule': "rm -f @z.out; FILE=@o make -s -f - out.mk.tmp <<'END'\nout.mk.tmp:\n\tcp \"$$FILE\" $@\n\tcp $@ \"$$FILE\"\nEND\nrm -f out.mk.tmp",
    'make -C': "mkdir -p d; printf 'all:\\n\\t-cd .. && bash -c \"$$DO\"\\n' > d/Makefile; DO=@Q make -s --no-print-directory -C d; rm -f d/Makefile",
    'npm run': "DO=@Q npm run --silent --prefix \"$W/npm\" do -- \"$PWD\"",
    'git alias': "DO=@Q git -c alias.do='!bash -c \"$DO\"' do",
    'awk system': "DO=@Q awk 'BEGIN { system(\"bash -c \\\"$DO\\\"\") }'",
    'perl system': "perl -e 'system(\"bash\",\"-c\",$_) for @ARGV' @Q @Q",
    'python system': python("import os,sys\nfor c in sys.argv[1:]: os.system(c)", '@D @D'),
    'python run': python("import subprocess,sys\nfor c in sys.argv[1:]: subprocess.run(['bash','-c',c])", '@Q @Q'),
    'python run, new session': python("import subprocess,sys\nfor c in sys.argv[1:]: subprocess.run(['bash','-c',c],start_new_session=True)", '@Q @Q'),
    'python pty': python("import pty,sys\npty.spawn(['bash','-c',sys.argv[1]])", '@Q'),
    'python exec': python("import os,sys\nos.execvp('bash',['bash','-c',sys.argv[1]])", '@Q'),
    'python popen': python("import subprocess,sys\np=subprocess.Popen(['bash','-s'],stdin=subprocess.PIPE);p.communicate(sys.argv[1].encode())", '@Q'),
    'node execSync': node("for(const c of [f,g])try{cp.execFileSync('bash',['-c',c],{stdio:'inherit'})}catch(e){}", '@Q @Q'),
    'vim :!': "DO=@Q vim -u NONE -i NONE -es -c 'silent !bash -c \"$DO\"' -c q",
    'emacs call-process': "DO=@Q emacs -Q --batch --eval '(call-process \"bash\" nil nil nil \"-c\" (getenv \"DO\"))'",
    'coproc': "coproc { @E\n}; wait",
    'coproc cat': "coproc { cat > @z; }; echo @j >&${COPROC[1]}; eval \"exec ${COPROC[1]}>&-\"; wait; mv @z @o",
    'monitor': "set -m; bash -c @Q & wait; set +m",
    'trap': "( trap '@E\n' EXIT; : )",
    'until gone': "bash -c @Q & while kill -0 $!; do :; done; wait",
    'umask': "( umask 077; @E\n)",
    'time': "time { @E\n}",
}
WRAPS['script'] = 'DO=@Q ' + WRAPS['script']
WRAPS['trap'] = "( DO=@Q; trap 'eval \"$DO\"' EXIT; : )"

# For scripts that have the directory under git.
GIT = {
    'git commit': "git add -A && git commit -qm c@n",
    'git commit -a': "git commit -qam c@n",
    'git commit objects': "git add -- *.json; git commit -qm o@n",
    'git add': "git add -A",
    'git status': "git status --porcelain",
    'git diff': "git diff --stat; git diff --quiet; echo $?",
    'git log': "git log --format=%s | head -n 3; git ls-files | head -n 20",
    'git checkout .': "git checkout -q -- .",
    'git checkout o': "git checkout -q -- @o",
    'git checkout old': "git checkout -q HEAD~1 -- @o",
    'git checkout --detach': "git checkout -qf HEAD~1 && git checkout -qf main",
    'git switch': "git add -A && git commit -qm s@n; git switch -qc b@n && { @E\n}; git add -A; git commit -qm b@n; git switch -q main",
    'git merge': "git add -A; git commit -qm m@n; git switch -qc m@n && { @E\n}; git add -A; git commit -qm m@n; git switch -q main && git merge -q --no-edit m@n",
    'git merge --no-ff': "git add -A; git commit -qm m@n; git switch -qc n@n && { @E\n}; git add -A; git commit -qm n@n; git switch -q main && git merge -q --no-ff --no-edit n@n",
    'git stash pop': "git stash -q && git stash pop -q",
    'git stash -u': "git stash -q -u && git stash pop -q",
    'git stash; …; pop': "git stash -q && { @E\ngit reset -q --hard; git stash pop -q; }",
    'git stash drop': "git stash -q && git stash drop -q",
    'git reset --hard': "git reset -q --hard",
    'git reset --hard old': "git add -A; git commit -qm r@n; git reset -q --hard HEAD~1",
    'git reset': "git reset -q",
    'git restore': "git restore @o",
    'git restore old': "git restore --source=HEAD~1 -- @o",
    'git restore all': "git restore .",
    'git mv': "git add -A; git mv -f @o @p && git mv @p @o",
    'git mv one': "git add -A; git mv -f @o @p",
    'git rm': "git rm -qf @o; git status --porcelain",
    'git rm --cached': "git rm -q --cached @o",
    'git revert': "git add -A; git commit -qm v@n; git revert --no-edit HEAD",
    'git rebase': "git add -A; git commit -qm x@n; git switch -qc r@n HEAD~1 && { git commit -q --allow-empty -m y@n; git rebase -q main; git switch -q main; }",
    'git apply -R': "git diff > \"$W/diff\"; git apply -R \"$W/diff\"",
    'git apply': "git diff > \"$W/diff\"; git checkout -q -- . && git apply \"$W/diff\"",
    'git show': "git show HEAD:@o > @z && mv @z @o; rm -f @z",
    'git clean': "git clean -fdq",
    'git worktree': "git worktree add -q \"$W/tree\" HEAD && cp \"$W/tree\"/*.json .; git worktree remove -f \"$W/tree\"",
    'git checkout; …; checkout': "git add -A; git commit -qm k@n; { @E\n}; git checkout -q -f",
    'git hook': "printf '#!/bin/bash\\neval \"$DO\"\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit; git add -A; DO=@Q git commit -qm h@n; rm -f .git/hooks/pre-commit",
    'git commit --amend': "git add -A; git commit -q --amend -m a@n",
    'git gc': "git gc -q",
}

TABLES = {'edit': EDITS, 'files': FILES, 'chain': CHAINS, 'wrap': WRAPS, 'git': GIT}
MARK = re.compile(r'@([opsrxytuzqnvjJSFEQD])(?![A-Za-z])')
# What only bash reads.
BASH = re.compile(r"<<<|\$'|\[\[|<\(|\$\(<|coproc|mapfile|\{#|BASH|time \{")


def whole(name):
    """A name at the top that is an object's."""
    return name.endswith('.json') and '/' not in name and not name.startswith('.')


def available(kinds):
    lacking = {p for p in PROGRAMS if not shutil.which(p)}
    return {k: {name: text for name, text in table.items() if not lacking & set(re.findall(r'[a-z]+', text))}
            for k, table in kinds.items()}


class Command:
    """A command's text, and the commands that are in it."""

    def __init__(self, kind, pieces, inner):
        self.kind, self.pieces, self.inner = kind, pieces, inner

    @property
    def text(self):
        inner = iter(self.inner)
        return ''.join(p if isinstance(p, str) else p[0](next(inner).text) for p in self.pieces)

    def kinds(self):
        return [self.kind] + [k for c in self.inner for k in c.kinds()]

    def simpler(self):
        """Commands that do less: what is in this one alone, or this one around less."""
        yield from self.inner
        for i, c in enumerate(self.inner):
            for less in [*c.simpler(), NOTHING]:
                if c is not NOTHING:
                    yield Command(self.kind, self.pieces, self.inner[:i] + [less] + self.inner[i + 1:])


NOTHING = Command(':', [':'], [])


class Writer:
    """Draws commands for one script."""

    def __init__(self, dice, git, only=None, without=()):
        self.dice, self.git, self.count = dice, git, 0
        self.tables = available(TABLES)
        for table in self.tables.values():
            for kind in [k for k in table if k in without]:
                del table[kind]
        self.only = only
        self.objects = ['a.json', 'b.json', 'c.json']
        if dice.random() < 0.3:
            self.objects[2] = dice.choice(['c d.json', 'é.json', 'package-lock.json', 'x.y.json', '1.json'])
        self.scratch = ['t', 'a.json~', 'b.json.bak', 'keep.txt', 'd/x.json', 'd/y', '.a.json.tmp', 'a.json.new']

    def first(self):
        """What is there before."""
        made = [Command('first', ['mkdir d'], []),
                Command('first', [f"echo '{{\"v\":0,\"w\":0}}' > {self.objects[0]}"], []),
                Command('first', [f"printf '{{\\n  \"v\": 1,\\n  \"k\": {{\"a\": [1, 2]}}\\n}}\\n' > {self.objects[1]}"], [])]
        if self.git:
            made.append(Command('git init', ['git init -q -b main && git add -A && git commit -qm first'], []))
        return made

    def command(self, depth=0, focus=None, posix=False):
        choices = [('edit', 38), ('files', 22), ('chain', 24), ('wrap', 16)] if depth == 0 else \
            [('edit', 70), ('files', 20), ('chain', 6), ('wrap', 4)] if depth < 3 else [('edit', 80), ('files', 20)]
        if self.git and depth == 0:
            choices.append(('git', 50))
        for _ in range(200):
            table = self.tables[self.dice.choices([c for c, _ in choices], [w for _, w in choices])[0]]
            if not table:
                continue
            kind = self.dice.choice(list(table))
            if self.only and depth == 0:
                kind = self.dice.choice([k for t in self.tables.values() for k in t if k in self.only])
                table = next(t for t in self.tables.values() if kind in t)
            made = self.fill(kind, table[kind], depth, focus)
            if table is self.tables['git']:
                # Never a repository that this directory happens to be in.
                made.pieces = ['[ -d .git ] && { ', *made.pieces, '\n}']
            if not posix or not BASH.search(made.text):
                return made
        return NOTHING

    def fill(self, kind, text, depth, focus):
        dice, known = self.dice, {}
        self.count += 1
        number, depths = self.count, f'{depth}' if depth else ''

        def name(mark):
            objects, any_name = list(self.objects), self.objects + self.scratch
            if mark == 'o':
                return focus if focus and dice.random() < 0.8 else dice.choice(objects)
            if mark == 'p':
                return dice.choice([n for n in objects if n != get('o')])
            if mark == 's':
                return dice.choice(self.scratch)
            if mark == 'r':
                return dice.choice([n for n in self.scratch if n != get('s')])
            if mark == 'x':
                return focus if focus and dice.random() < 0.7 else dice.choice(any_name)
            if mark == 'y':
                return dice.choice([n for n in any_name if n != get('x')])
            stem = {'t': 'tmp', 'u': 'tmq', 'z': 'tmpz', 'q': 'tmpq'}[mark] + depths + (str(number) if depth else '')
            form = dice.choice(['{}', '.{}', '{}.new', '{}~', '{}.json'] if mark in 'tu' else ['{}', '.{}', '{}.json.bak'])
            return form.format(stem)

        def get(mark):
            if mark not in known:
                known[mark] = name(mark) if mark in 'opsrxytuzq' else value(mark)
            return known[mark]

        def value(mark):
            if mark == 'n':
                return str(number)
            if mark == 'v':
                return str(dice.randrange(3))
            if mark == 'j':
                return quote(dice.choice([
                    '{"v":%d,"w":%d}' % (number, dice.randrange(3)), '{"v":%d,"k%d":%d}' % (dice.randrange(3), dice.randrange(3), number),
                    '{ "v" : %d }' % dice.randrange(3), '{"v":%d,"s":"\\u00e9 é","a":[1,{"b":null}]}' % dice.randrange(5),
                    '{"v":%d,"pad":"%s"}' % (number, 'x' * dice.choice([10, 100, 5000]))]))
            if mark == 'J':
                return json.dumps({'v': number, 'w': dice.randrange(3), 'list': [1, 2.5, 'c']}, indent=dice.choice([1, 2, 4]))
            if mark == 'S':
                return quote(dice.choice([
                    's/"v": *[0-9][0-9]*/"v":%d/' % number, 's/"v": *[0-9][0-9]*/"v":%d/' % dice.randrange(3), 's/"w": *[0-9][0-9]*/"w":%d/' % number,
                    's/"v"/"u"/', 's/"u"/"v"/']))
            if mark == 'F':
                return quote(dice.choice([
                    f'.v={number}', f'.k{number % 3}={number}', 'del(.w)', '.', f'.a=[.v,{number}]', '{v,z:1}', '.v=1', 'with_entries(.)']))
            raise ValueError(mark)

        pieces, inner, at = [], [], 0
        for mark in MARK.finditer(text):
            pieces.append(text[at:mark.start()])
            at, letter = mark.end(), mark[1]
            if letter in 'EQD':
                inner.append(self.command(depth + 1, get('o'), letter == 'D'))
                pieces.append((str,) if letter == 'E' else (quote,))
            elif letter in 'opsrxytuzq':
                pieces.append(quote(get(letter)))
            else:
                pieces.append(get(letter))
        return Command(kind, pieces + [text[at:]], inner)
