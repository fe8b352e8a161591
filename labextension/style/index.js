import './base.css';
import './status.css';
import './gauge.css';
import './advice.css';
