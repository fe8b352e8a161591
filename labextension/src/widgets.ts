import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { Kernel, KernelMessage, Session } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';

import { toneIcons } from './icons';

const VIEW = 'application/vnd.jupyter.widget-view+json';

type RenderMime = NotebookPanel['content']['rendermime'];
type Renderer = ReturnType<RenderMime['createRenderer']>;
type Model = Parameters<Renderer['renderModel']>[0];

/** What there is of the renderer of jupyterlab_widgets 3: the manager of the notebook's widgets, once it has one. */
interface IWidgetRenderer {
  _manager?: { promise: Promise<IWidgetManager> };
}

interface IWidgetManager {
  /** It has asked the kernel for all widgets that there are. */
  restoredStatus: boolean;
  has_model(id: string): boolean;
}

/**
 * Have notebooks show widgets whose kernel is gone as they looked last, below a sentence.
 *
 * What is live is jupyterlab_widgets' own: it asks the kernel for the state of all widgets when a page opens a notebook. A widget that
 * the kernel does not know it shows as an error, and one that the server closes, since the notebook moves, not at all.
 */
export function showDeadWidgets(tracker: INotebookTracker, trans: TranslationBundle): void {
  tracker.widgetAdded.connect((_, panel) => watch(panel, trans));
}

function watch({ content, sessionContext }: NotebookPanel, trans: TranslationBundle): void {
  /** Of widgets that the server has closed: a kernel says at whose request it closes one. */
  const left = new Set<string>();
  const shown = new Set<DeadWidget>();

  const onMessage = (_: unknown, { msg }: Kernel.IAnyMessageArgs): void => {
    if (
      msg.header.msg_type === 'comm_close' &&
      msg.channel === 'iopub' &&
      !('msg_id' in msg.parent_header)
    ) {
      // Before anybody else hears of it: of a box, parts would be missing afterwards.
      shown.forEach(each => each.keepPicture());
      left.add((msg as KernelMessage.ICommCloseMsg).content.comm_id);
    }
  };
  const onSession = (session: Session.ISessionConnection | null): void => {
    session?.anyMessage.connect(onMessage);
  };
  sessionContext.sessionChanged.connect((_, { newValue }) => onSession(newValue));
  onSession(sessionContext.session);

  const { rendermime } = content;
  const create = rendermime.createRenderer.bind(rendermime);
  rendermime.createRenderer = mimeType => {
    const renderer = create(mimeType);
    if (mimeType === VIEW) {
      const widget = new DeadWidget(renderer, {
        left,
        hasNoKernel: () => sessionContext.isReady && sessionContext.hasNoKernel,
        trans
      });
      shown.add(widget);
      renderer.disposed.connect(() => shown.delete(widget));
    }
    return renderer;
  };
}

interface IOptions {
  left: ReadonlySet<string>;
  hasNoKernel(): boolean;
  trans: TranslationBundle;
}

/** Goes around the renderer of one view. */
class DeadWidget {
  constructor(
    private readonly _renderer: Renderer,
    private readonly _options: IOptions
  ) {
    const render = _renderer.renderModel.bind(_renderer);
    const hide = _renderer.hide.bind(_renderer);
    let view: { model_id?: string } = {};

    _renderer.renderModel = async model => {
      this._model = model;
      this._picture = null;
      view = (model.data[VIEW] as object | undefined) ?? {};
      // When a view is closed, the renderer takes the id out of what it was given, which would then be saved without it.
      const data = { ...model.data, [VIEW]: { ...view } as never };
      await render(Object.create(model, { data: { value: data } }) as Model);
      await this._look(view.model_id);
    };
    _renderer.hide = () => {
      if (view.model_id && _options.left.has(view.model_id)) {
        // Its own view is being taken out of it just now.
        queueMicrotask(() => this._show());
      } else {
        view.model_id = '';
        hide();
      }
    };
  }

  /** How it looks now is how it is shown if it is closed next. */
  keepPicture(): void {
    const { node } = this._renderer;
    if (this._picture || !node.firstElementChild) {
      return;
    }
    const picture = node.cloneNode(true) as HTMLElement;
    const canvases = picture.querySelectorAll('canvas');
    node.querySelectorAll('canvas').forEach((canvas, index) => {
      canvases[index].getContext('2d')?.drawImage(canvas, 0, 0);
    });
    picture.inert = true;
    this._picture = picture;
  }

  private async _look(id: string | undefined): Promise<void> {
    const manager = await (this._renderer as IWidgetRenderer)._manager?.promise;
    if (
      id &&
      manager?.has_model(id) === false &&
      (manager.restoredStatus || this._options.hasNoKernel())
    ) {
      this._show();
    }
  }

  private _show(): void {
    const { trans } = this._options;
    if (this._renderer.isDisposed) {
      return;
    }
    const box = document.createElement('div');
    box.className = 'jp-Dsvm-deadWidget';
    const said = document.createElement('p');
    said.append(
      toneIcons.gone.element({ tag: 'span', className: 'jp-Dsvm-tone' }),
      trans.__(
        'This widget does not answer any more: the kernel that it was in is gone. Run the cell to make it anew.'
      )
    );
    box.append(said, this._picture ?? this._text());
    this._renderer.node.replaceChildren(box);
  }

  private _text(): HTMLElement {
    const text = document.createElement('pre');
    const plain = this._model?.data['text/plain'];
    text.textContent = Array.isArray(plain) ? plain.join('') : String(plain ?? '');
    return text;
  }

  private _model: Model | null = null;
  private _picture: HTMLElement | null = null;
}
