import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IOperation, IWorkspace, IWorkspaceConflict, IWorkspaceFile, Keep } from '../api';
import { bytesText, filesTone, filesText, moreText } from '../filewords';
import { h } from '../jsx';
import { withPoint } from '../words';
import { useKeptFocus } from './keptFocus';
import { Problem } from './Problem';
import { ToneIcon } from './ToneIcon';

/** The code of a sync that stopped because it is much, and copies all of it once a person has said so. */
export const NEEDS_YES = 'NeedsYes';

/** Names in one list; of more it says how many. */
const MOST = 50;

/** What a person can have done to a workspace's files. */
export interface IWorkspaceActions {
  sync(workspace: IWorkspace): void;
  /** Do what a sync had stopped before; where that may delete something, a person is asked first. */
  force(workspace: IWorkspace): void;
  /** Open both versions side by side; absent where the page opens no files. */
  show?: (workspace: IWorkspace, conflict: IWorkspaceConflict) => void;
  keep(workspace: IWorkspace, conflict: IWorkspaceConflict, keep: Keep): void;
  fetch(workspace: IWorkspace, paths: string[]): void;
  cancel(operation: IOperation): void;
}

export interface IWorkspaceProps {
  workspace: IWorkspace;
  /** What the machine is called. */
  name: string;
  /** The sync that a person asked for and that goes on. */
  operation?: IOperation;
  actions: IWorkspaceActions;
  trans: TranslationBundle;
}

/** The notebook's files: whether they are in step, and what is left to a person. */
export function Workspace(props: IWorkspaceProps): React.ReactElement {
  const { workspace, name, operation, actions, trans } = props;
  const { state, conflicts, left_there: left, skipped, problem } = workspace;
  const region = useKeptFocus<HTMLDivElement>();
  const canSync = state !== 'off' && state !== 'copying' && state !== 'halted' && !operation;
  return (
    <div
      ref={region}
      className="jp-Dsvm-files"
      tabIndex={-1}
      role="group"
      aria-label={trans.__('Files of this notebook')}
      data-state={state}
    >
      <State {...props}>
        {canSync && state !== 'failed' && (
          <button data-first className="jp-Dsvm-textButton" onClick={() => actions.sync(workspace)}>
            {trans.__('Sync now')}
          </button>
        )}
      </State>
      {state === 'halted' && (
        <Problem problem={problem} trans={trans}>
          <button data-first className="jp-mod-styled" onClick={() => actions.force(workspace)}>
            {problem?.code === NEEDS_YES ? trans.__('Copy all of it') : trans.__('Sync anyway…')}
          </button>
          <button className="jp-mod-styled" onClick={() => actions.sync(workspace)}>
            {trans.__('Look again')}
          </button>
        </Problem>
      )}
      {state === 'failed' && (
        <Problem
          problem={problem}
          onRetry={canSync ? () => actions.sync(workspace) : undefined}
          trans={trans}
        />
      )}
      {conflicts.length > 0 && <Conflicts {...props} />}
      {left.length > 0 && (
        <Left
          files={left}
          name={name}
          canFetch={!operation && state !== 'copying'}
          onFetch={paths => actions.fetch(workspace, paths)}
          trans={trans}
        />
      )}
      {skipped.length > 0 && <Skipped files={skipped} trans={trans} />}
    </div>
  );
}

function State(props: IWorkspaceProps & { children?: React.ReactNode }): React.ReactElement {
  const { workspace, operation, actions, trans } = props;
  const text = withPoint(filesText(workspace, trans));
  const isCopying = workspace.state === 'copying';
  return (
    <>
      <div className="jp-Dsvm-filesState">
        <ToneIcon tone={filesTone(workspace)} />
        {/* The numbers go on too fast to be read out. */}
        <p aria-hidden={isCopying}>{text}</p>
        <p className="jp-Dsvm-hidden" role="status" aria-live="polite">
          {isCopying ? trans.__('Files are being copied.') : text}
        </p>
        {props.children}
      </div>
      {isCopying && (
        <div className="jp-Dsvm-operation">
          <progress
            aria-label={trans.__('Copying')}
            max={1}
            value={workspace.progress ?? undefined}
          />
          {operation && (
            <div className="jp-Dsvm-buttons">
              <button
                data-first
                className="jp-mod-styled"
                onClick={() => actions.cancel(operation)}
              >
                {trans.__('Cancel')}
              </button>
            </div>
          )}
        </div>
      )}
    </>
  );
}

function Conflicts(props: IWorkspaceProps): React.ReactElement {
  const { workspace, name, actions, trans } = props;
  const { conflicts } = workspace;
  return (
    <div className="jp-Dsvm-conflicts">
      <p id={`jp-dsvm-conflicts-${workspace.id}`}>
        {trans._n(
          'This file was changed here and on %2. Both versions are there.',
          'These files were changed here and on %2. Both versions are there.',
          conflicts.length,
          name
        )}
      </p>
      <ul aria-labelledby={`jp-dsvm-conflicts-${workspace.id}`}>
        {conflicts.slice(0, MOST).map(conflict => (
          <li key={conflict.kept_as}>
            <p className="jp-Dsvm-path" title={conflict.path}>
              {conflict.path}
            </p>
            <p className="jp-Dsvm-quiet" title={conflict.kept_as}>
              {trans.__('That of %1: %2', name, lastPart(conflict.kept_as))}
            </p>
            <div className="jp-Dsvm-buttons">
              {actions.show && (
                <button
                  className="jp-mod-styled"
                  aria-label={trans.__('Show both versions of %1', conflict.path)}
                  onClick={() => actions.show?.(workspace, conflict)}
                >
                  {trans.__('Show')}
                </button>
              )}
              <button
                className="jp-mod-styled"
                title={trans.__(
                  'Keep the version of this server; that of %1 goes to the trash',
                  name
                )}
                aria-label={trans.__('Keep mine of %1', conflict.path)}
                onClick={() => actions.keep(workspace, conflict, 'mine')}
              >
                {trans.__('Keep mine')}
              </button>
              <button
                className="jp-mod-styled"
                title={trans.__(
                  'Keep the version of %1; that of this server goes to the trash',
                  name
                )}
                aria-label={trans.__('Keep theirs of %1', conflict.path)}
                onClick={() => actions.keep(workspace, conflict, 'theirs')}
              >
                {trans.__('Keep theirs')}
              </button>
            </div>
          </li>
        ))}
      </ul>
      <More count={conflicts.length - MOST} trans={trans} />
    </div>
  );
}

interface ILeftProps {
  files: IWorkspaceFile[];
  name: string;
  canFetch: boolean;
  onFetch: (paths: string[]) => void;
  trans: TranslationBundle;
}

/** What this server has no room for. */
function Left({ files, name, canFetch, onFetch, trans }: ILeftProps): React.ReactElement {
  return (
    <div className="jp-Dsvm-left">
      <p id="jp-dsvm-left">
        {trans._n(
          '%1 file stays on %2: there is not enough room here.',
          '%1 files stay on %2: there is not enough room here.',
          files.length,
          name
        )}
      </p>
      <ul aria-labelledby="jp-dsvm-left">
        {files.slice(0, MOST).map(file => (
          <li key={file.path}>
            <p className="jp-Dsvm-path" title={file.reason || file.path}>
              {file.size === null ? file.path : `${file.path} · ${bytesText(file.size, trans)}`}
            </p>
            <button
              className="jp-mod-styled"
              disabled={!canFetch}
              aria-label={trans.__('Fetch %1', file.path)}
              onClick={() => onFetch([file.path])}
            >
              {trans.__('Fetch')}
            </button>
          </li>
        ))}
      </ul>
      <More count={files.length - MOST} trans={trans} />
    </div>
  );
}

function Skipped(props: { files: IWorkspaceFile[]; trans: TranslationBundle }): React.ReactElement {
  const { files, trans } = props;
  return (
    <details className="jp-Dsvm-skipped">
      <summary>
        {trans._n('%1 file does not travel', '%1 files do not travel', files.length)}
      </summary>
      {/* It scrolls where there are many, and so the keyboard must come by. */}
      <ul tabIndex={0} aria-label={trans.__('Files that do not travel')}>
        {files.slice(0, MOST).map(file => (
          <li key={file.path}>
            <span className="jp-Dsvm-path">{file.path}</span>
            {file.reason && <span className="jp-Dsvm-quiet">{withPoint(file.reason)}</span>}
          </li>
        ))}
      </ul>
      <More count={files.length - MOST} trans={trans} />
    </details>
  );
}

function More(props: { count: number; trans: TranslationBundle }): React.ReactElement | null {
  return props.count > 0 ? (
    <p className="jp-Dsvm-quiet">{moreText(props.count, props.trans)}</p>
  ) : null;
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
